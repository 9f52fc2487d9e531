"""Models that wait in the hosts' memory: nothing but where they lie is another."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tiny_run

from pit_jax import layout, parallel
from pit_jax.models import pure
from pit_jax.recipes import pit
from pit_jax.rollout import rewards as rollout_rewards
from pit_jax.run import abstract, checks, memory, origin
from pit_jax.stages import ppo, supervised
from pit_jax.training import optimizers
from pit_jax.training import step as training_step

SETTINGS = ppo.Settings(
  epochs=1, minibatches=2, clip=0.2, value_clip=0.5, value_coefficient=0.5,
  entropy_coefficient=0.01, loss_kl_coefficient=0.02, discount=1.0, trace=0.95, target_kl=0.0,
  missing_eos_penalty=1.0, whiten_rewards=False, kl_target=1.0, temperature=1.0,
)  # fmt: skip


def kinds(tree):
  return {leaf.sharding.memory_kind for leaf in jax.tree.leaves(tree)}


def assert_equal(actual, expected):
  jax.tree.map(np.testing.assert_array_equal, *jax.device_get((actual, expected)))


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 2)], ids=str)
def test_arrays_go_and_come_back_to_their_places(shape):
  model, mesh = tiny.language(), parallel.make_mesh(shape)
  params = jax.device_put(tiny.parameters(model, seed=0), parallel.homes(model, mesh))
  waiting = layout.to_hosts(params)
  back = layout.to_devices(waiting)
  assert kinds(waiting) == {layout.HOST} and layout.HOST not in kinds(params)
  for there, here in zip(jax.tree.leaves(back), jax.tree.leaves(params), strict=True):
    assert there.sharding == here.sharding
  assert_equal(back, params)
  same = layout.to_devices(params)
  assert all(a is b for a, b in zip(jax.tree.leaves(same), jax.tree.leaves(params), strict=True))


def iterate(mesh, place):
  """Returns state and metrics after an iteration of PPO whose reference lies where `place` says."""
  models = {"policy": tiny.language(layers=1), "value": tiny.scalar(layers=1)}
  optimizer = optimizers.policy_and_value(clip_norm=1.0, epsilon=1e-5, value_scale=1.0)
  program = ppo.make_iteration(*models.values(), optimizer, SETTINGS, tiny.EOS)
  params = {name: tiny.parameters(model, seed=1) for name, model in models.items()}
  axes = {name: model.axes for name, model in models.items()}
  start = ppo.State(supervised.place(params, axes, optimizer, mesh), jnp.float32(0.1))
  reference = tiny.parameters(models["policy"], seed=2)
  reference = place(jax.device_put(reference, parallel.homes(models["policy"], mesh)))
  frozen = {"base": {}, "reference": reference}
  numbers = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
  rows = (tiny.prompts(0, [3] * 8, 4), tiny.responses(1, [1, 2, 3, 4, 5] * 2, 5))
  responses = jax.tree.map(lambda x: x[:8], rows[1])
  rewards = rollout_rewards.at_end(jnp.array(numbers[:, 5]), jnp.array(responses.mask))
  rows = (rows[0], responses, -np.abs(numbers[:, :5]), rewards)
  rates = dict.fromkeys(ppo.KINDS, jnp.float32(0.1))
  given = (*parallel.put_batch(rows, mesh), jax.random.key(0), rates, jnp.float32(100))
  return jax.jit(layout.on(mesh, program))(start, frozen, *given)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 2)], ids=str)
def test_an_iteration_of_ppo_is_the_same_to_the_bit(shape):
  mesh = parallel.make_mesh(shape)
  after = iterate(mesh, layout.to_hosts)
  assert layout.HOST not in kinds(after)
  assert_equal(after, iterate(mesh, lambda params: params))


def rows(path):
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  return [{k: v for k, v in row.items() if not k.startswith("perf/")} for row in lines]


@pytest.mark.slow
def test_a_run_is_the_same_to_the_bit(finished_run, tmp_path):
  context = tiny_run.build(tiny_run.config(model__offload=True, ablations=True), tmp_path / "run")
  models = pit.RECIPE.train(context)
  found = {}
  for name, one in (("waiting", models), ("usual", finished_run.models)):
    policy, others = one.policy, (one.improver_sft, one.gap_reward, one.improver)
    found[name] = [model.params for model in (policy.sft, policy.reward, policy.rl, *others)]
  assert kinds(found["waiting"]) == {layout.HOST}
  assert_equal(found["waiting"], found["usual"])
  for name, ablation in finished_run.models.ablations.items():
    assert_equal(models.ablations[name].params, ablation.params)
  stages = sorted(path.name for path in (tmp_path / "run" / "metrics").iterdir())
  assert "pit_rp_difference_policy.jsonl" in stages
  for stage in stages:
    expected = rows(finished_run.workdir / "metrics" / stage)
    assert rows(tmp_path / "run" / "metrics" / stage) == expected, stage


def test_a_base_waits_too_and_training_starts_from_it_on_the_devices():
  mesh = parallel.make_mesh((1, 1, 1))
  config = tiny_run.config(model__base="embedded")
  shape = origin.shape(config, origin.EMBEDDED, 0, "cpu")
  usual, waiting = (origin.load(origin.EMBEDDED, shape, mesh, waits) for waits in (False, True))
  assert kinds(waiting.params) == {layout.HOST}
  model, optimizer = pure.language_model(shape), training_step.adam(clip_norm=1.0)
  state = supervised.place(waiting.params, model.axes, optimizer, mesh)
  assert layout.HOST not in kinds(state)
  assert_equal(state.params, usual.params)


# Plans and refusals


def arrays(**changes):
  model = tiny.language()
  mesh = parallel.make_mesh((1, 1, 1))
  return abstract.Arrays(tiny_run.config(**changes), mesh, model, tiny.scalar())


def test_what_waits_takes_nothing_of_a_device():
  usual, waiting = (memory.needs(arrays(model__offload=on), pit.RECIPE) for on in (False, True))
  asked = ("reference", "reward model")
  waits = {*asked, "models of other stages"}
  of_rl = {stage: kept for stage, kept in waiting.items() if "reference" in kept}
  assert len(of_rl) == 6  # sampling and PPO of the policy, and of two stages of the improver
  for stage, kept in of_rl.items():
    assert all(kept[name] == 0 for name in waits & {*kept})
    assert all(usual[stage][name] > 0 for name in asked)
    assert all(size == usual[stage][name] for name, size in kept.items() if name not in waits)


def test_adapters_on_a_shared_base_are_refused():
  config = tiny_run.config(model__offload=True, **{"model.lora.rank": 4})
  with pytest.raises(ValueError, match="model.lora.rank=4: all models share one frozen base"):
    checks.offload(config)


def test_devices_without_such_memory_are_refused(monkeypatch):
  class Memory:
    kind = "device"

  class Device:
    def addressable_memories(self):
      return [Memory()]

  config = tiny_run.config(model__offload=True)
  checks.offload(config)
  monkeypatch.setattr(jax, "local_devices", lambda: [Device()])
  with pytest.raises(ValueError, match="wants the memory 'pinned_host', and these devices have"):
    checks.offload(config)
  checks.offload(tiny_run.config())
