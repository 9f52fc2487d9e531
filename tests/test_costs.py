"""What work asks of a device, counted by hand, and the peaks of the makers."""

import jax
import pytest
import tiny

from pit_jax import costs, parallel
from pit_jax.models import architecture, pure


def test_costs_are_counted_by_hand():
  model = tiny.language()  # 2 layers, width 16, 4 heads and 2 of keys, 4 wide; hidden 24, 11 tokens
  params = tiny.parameters(model, seed=0)
  layer = 16 * 16 + 2 * 16 * 8 + 16 * 16 + 3 * 16 * 24 + 2 * 16
  count = 2 * layer + 16 + 11 * 16  # the tied embedding is the head
  assert costs.multiplied(model.config, params) == count
  scalar = pure.scalar_model(model.config)
  assert costs.multiplied(model.config, tiny.parameters(scalar, 0)) == 2 * layer + 16 + 17
  assert costs.training(model, params, tokens=100).flops == 600 * count
  # Two models trained, and five read: what a PPO iteration does.
  assert costs.training(model, params, 100, models=2, reads=5).flops == 2_200 * count
  adapted = tiny.language(adapter=architecture.Adapter(3, targets=("key", "down")))
  known = tiny.parameters(adapted, seed=0)
  added = 2 * 3 * (16 + 8 + 24 + 16)  # A and B of two matrices in two layers
  assert costs.multiplied(adapted.config, known) == count + added
  assert costs.training(adapted, known, tokens=100).flops == 100 * (4 * count + 6 * added)
  cost = costs.generation(model.config, params, prompts=[3, 5], responses=[2, 1])
  # Row 0 reads its prompt and its first token, which sees four; row 1 reads its prompt alone.
  assert cost.flops == 2 * count * (4 + 5)
  assert cost.bytes == 2 * 4 * count + 4 * (2 * 2 * 2 * 4) * 4
  narrow = tiny.language(dtype="bfloat16")
  mesh = parallel.make_mesh((1, 1, 1), devices=jax.devices()[:1])
  read = pure.gathered(narrow, jax.device_put(params, parallel.homes(narrow, mesh)), mesh)
  norms = 2 * 2 * 16 + 16  # stay in float32
  cost = costs.generation(narrow.config, read, prompts=[3], responses=[1])
  assert cost.bytes == 2 * count + 2 * norms


def test_shares_are_of_the_devices_peaks():
  h200 = costs.peak("NVIDIA H200")
  cost = costs.Cost(flops=h200.flops, bytes=h200.bytes / 2)
  assert costs.shares(cost, 2.0, h200) == {"mfu": 0.5, "bandwidth": 0.25}
  unknown = {"mfu": None, "bandwidth": None}
  assert costs.shares(None, 2.0, h200) == costs.shares(cost, 2.0, None) == unknown
  assert costs.shares(costs.Cost(1.0), 2.0, h200)["bandwidth"] is None


@pytest.mark.parametrize(
  "kind, flops, bandwidth",
  [
    ("NVIDIA H100 80GB HBM3", 989.4e12, 3.35e12),
    ("NVIDIA A100-SXM4-80GB", 312e12, 2.039e12),
    ("TPU v4", 275e12, 1.228e12),
    ("TPU v5 lite", 197e12, 0.819e12),  # not the v5p that "TPU v5" is
    ("TPU v5", 459e12, 2.765e12),
    ("TPU v6 lite", 918e12, 1.64e12),
  ],
)
def test_peaks_are_the_makers(kind, flops, bandwidth):
  found = costs.peak(kind)
  assert (found.flops, found.bytes) == (flops, bandwidth)


def test_other_devices_have_no_known_peak():
  assert costs.peak("cpu") is None and costs.peak("TPU v99") is None
