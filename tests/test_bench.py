"""The benchmark measures what it says, and nothing it measures changes a model."""

import importlib.util
import json
import pathlib

import jax
import numpy as np
import pytest
import tiny

from pit_jax import bench
from pit_jax.data import text
from pit_jax.models import hf, pure

LAUNCH = pathlib.Path(__file__).resolve().parent.parent / "launch" / "bench.py"
NAMES = ["generate, batch 1", "generate, batch 3", "sft", "reward", "gap reward", "ppo iteration"]
pytestmark = pytest.mark.slow  # every part of training is compiled
ARGUMENTS = ["--batches=1,3", "--prompt=4", "--response=5", "--rows=2", "--repeats=2"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  directory = tmp_path_factory.mktemp("model")
  model = tiny.language(vocabulary=300)
  hf.save(directory, model, tiny.parameters(model, seed=0), eos_token_id=1, pad_token_id=0)
  text.train_tokenizer(["some words"], 258, directory)
  return directory


def run(*arguments):
  spec = importlib.util.spec_from_file_location("launch_bench", LAUNCH)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  module.main(list(arguments))


def test_every_part_is_measured(directory, tmp_path, capsys):
  run(f"--model={directory}", *ARGUMENTS, f"--json={tmp_path / 'bench.json'}")
  found = json.loads((tmp_path / "bench.json").read_text())
  assert [row["name"] for row in found["cases"]] == NAMES
  tokens = [5, 15, 18, 28, 56, 18]
  for row, count in zip(found["cases"], tokens, strict=True):
    assert row["tokens_per_second"] == pytest.approx(count / row["seconds"])
    assert row["spread"] >= 1 and "ratio" not in row
  assert found["peak_bytes"] > 2**20
  said = capsys.readouterr().out
  assert all(name in said for name in NAMES)


def test_models_are_as_they_were_and_every_token_is_generated():
  model = tiny.language()
  params = tiny.parameters(model, seed=1)
  before = jax.tree.map(np.copy, params)
  sizes = bench.Sizes(batches=(2,), prompt=3, response=4, rows=2)
  for case in bench.cases(model, pure.scalar_model(model.config), params, sizes):
    call = case.start()
    call(), call()
    if case.name.startswith("generate"):
      responses, _ = call()
      assert responses.mask.all() and responses.mask.size == case.tokens
  jax.tree.map(np.testing.assert_array_equal, params, before)


def test_calls_alternate_and_medians_are_compared(monkeypatch):
  clock, order = [0.0], []
  monkeypatch.setattr(bench.time, "perf_counter", lambda: clock[0])

  def case(seconds):
    times = iter([100.0, *seconds])  # the first call compiles

    def call():
      order.append(seconds[0])
      clock[0] += next(times)

    return bench.Case("x", 30, lambda: call)

  (row,) = bench.measure([case([1.0, 5.0, 3.0])], {"x": case([6.0, 2.0, 9.0])}, repeats=3)
  assert order == [1.0, 6.0] * 4
  assert row == {
    "name": "x",
    "tokens_per_second": 10.0,
    "seconds": 3.0,
    "spread": 5.0,
    "peer_tokens_per_second": 5.0,
    "ratio": 2.0,
  }


@pytest.mark.parity
def test_the_peer_does_the_same_work(directory, tmp_path):
  pytest.importorskip("torch", reason="torch is absent; install the extra `parity`")
  run(f"--model={directory}", "--peer", *ARGUMENTS, f"--json={tmp_path / 'bench.json'}")
  rows = json.loads((tmp_path / "bench.json").read_text())["cases"]
  assert [row["name"] for row in rows if "ratio" in row] == NAMES[:3]


def test_a_missing_model_is_named(tmp_path):
  with pytest.raises(SystemExit, match=r"config\.json"):
    run(f"--model={tmp_path / 'absent'}")
