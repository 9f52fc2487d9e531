"""A run that was interrupted, in whatever way, ends exactly like one that was not."""

import json
import pathlib
import struct
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from pit_jax.training import keeping, log, loop, operations, writers

METADATA = {"model": "toy", "data": "f00d"}


class Interrupted(Exception):
  """Stands for whatever ends a run."""


def make_state():
  return {"w": jnp.linspace(-1.0, 1.0, 7), "step": jnp.int32(0)}


@jax.jit
def toy_step(state, step):
  noise = jax.random.normal(jax.random.fold_in(jax.random.key(0), step), (7,))
  weights = state["w"] * 0.9 + 0.1 * jnp.sin(noise)
  metrics = {"loss": jnp.square(weights).sum(), "first": weights[0]}
  return {"w": weights, "step": state["step"] + 1}, metrics


class Run:
  """Trains the toy; raises at chosen steps and remembers which steps it took."""

  def __init__(self, workdir: pathlib.Path, **settings):
    self.workdir, self.taken, self.raise_at = workdir, [], None
    self.settings = {"steps": 23, "log_every": 4, "save_every": 5, **settings}

  def advance(self, state, step):
    if step == self.raise_at:
      raise Interrupted
    self.taken.append(step)
    return *toy_step(state, step), {}

  def __call__(self, raise_at=None, **changed):
    self.raise_at = raise_at
    settings = {"metadata": METADATA, **self.settings, **changed}
    return loop.fit("toy", self.advance, make_state(), workdir=self.workdir, **settings)

  def rows(self):
    return without_perf(self.workdir / "metrics" / "toy.jsonl")


def without_perf(path):
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  return [{key: row[key] for key in row if not key.startswith("perf/")} for row in rows]


def assert_same(left, right):
  for one, other in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
    assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def evaluation(state, step):
  return {"held_out/norm": jnp.linalg.norm(state["w"]), "held_out/at": step}


def samples(state, step):
  return [{"text": f"sample {index}", "score": float(state["w"][index])} for index in range(2)]


def test_the_loop_is_the_obvious_loop(tmp_path):
  run = Run(tmp_path, evaluate=evaluation, evaluate_every=6, samples=samples)
  ended = run()
  state, expected = make_state(), []
  for step in range(23):
    state, metrics = toy_step(state, step)
    row = {"step": step + 1, **{name: float(value) for name, value in metrics.items()}}
    if step + 1 in (6, 12, 18, 23):
      row |= {"held_out/norm": float(jnp.linalg.norm(state["w"])), "held_out/at": float(step + 1)}
    if step + 1 in (4, 6, 8, 12, 16, 18, 20, 23):
      expected.append(row)
  assert_same(ended, state)
  assert run.rows() == expected
  assert run.taken == list(range(23))
  shown = writers.read(tmp_path / "samples" / "toy.jsonl")
  assert [row["step"] for row in shown] == [6, 6, 12, 12, 18, 18, 23, 23]
  assert list((tmp_path / "tensorboard" / "toy").iterdir())


@pytest.mark.parametrize("raise_at", [0, 3, 5, 9, 10, 14, 22])
def test_interrupted_is_uninterrupted(tmp_path, raise_at):
  settings = {"evaluate": evaluation, "evaluate_every": 6, "samples": samples}
  whole, halves = Run(tmp_path / "whole", **settings), Run(tmp_path / "halves", **settings)
  expected = whole()
  with pytest.raises(Interrupted):
    halves(raise_at)
  halves.taken.clear()
  assert_same(halves(), expected)
  assert halves.taken == list(range(raise_at // 5 * 5, 23))
  assert halves.rows() == whole.rows()
  first, second = (run.workdir / "samples" / "toy.jsonl" for run in (whole, halves))
  assert first.read_text() == second.read_text()


def test_three_interruptions_and_a_damaged_checkpoint(tmp_path, capsys, caplog):
  whole, parts = Run(tmp_path / "whole"), Run(tmp_path / "parts")
  expected = whole()
  for raise_at in (7, 12, 18):
    with pytest.raises(Interrupted):
      parts(raise_at)
  newest = tmp_path / "parts" / "checkpoints" / "toy" / "15"
  for path in newest.rglob("manifest.ocdbt"):
    path.write_bytes(b"")
  parts.taken.clear()
  assert_same(parts(), expected)
  assert parts.taken[0] == 10
  assert parts.rows() == whole.rows()
  assert str(newest) in caplog.text
  assert "continues after step 10 of 23" in capsys.readouterr().out


def test_a_finished_stage_is_read_back_without_a_step(tmp_path, capsys):
  run = Run(tmp_path)
  expected, rows = run(), run.rows()
  run.taken.clear()
  assert_same(run(), expected)
  assert run.taken == []
  assert run.rows() == rows
  assert "finished before, 23 steps" in capsys.readouterr().out


def test_a_run_that_continues_holds_one_state_and_no_more(tmp_path):
  shape, held = (70_001,), []  # that of nothing else

  def advance(state, step):
    held.append(sum(leaf.shape == shape for leaf in jax.live_arrays()))
    if step == 3 and len(held) == 4:
      raise Interrupted
    return jax.tree.map(lambda leaf: leaf + 1.0, state), {"loss": jnp.float32(1 / (step + 1))}, {}

  def fit(first):  # the caller holds the first state, as stages do
    keeping_best = keeping.Keeping(best="lowest")
    return loop.fit(
      "toy",
      advance,
      first,
      steps=5,
      workdir=tmp_path,
      metadata={},
      log_every=9,
      save_every=2,
      evaluate=lambda _, step: {"score": float(abs(step - 4))},
      evaluate_every=4,
      surroundings=operations.Operations(keeping=keeping_best, score="score"),
    )

  first = {"w": jnp.zeros(shape)}
  with pytest.raises(Interrupted):
    fit(first)
  held.clear()
  first = {"w": jnp.zeros(shape)}
  best = fit(first)
  assert held[0] == 1
  assert first["w"].is_deleted()
  np.testing.assert_array_equal(best["w"], np.full(shape, 4.0, np.float32))


def test_a_changed_run_is_refused_naming_both_values(tmp_path):
  run = Run(tmp_path)
  with pytest.raises(Interrupted):
    run(12)
  before = run.rows()
  with pytest.raises(ValueError, match='data was "f00d" .* and is "beef" now'):
    run(metadata={**METADATA, "data": "beef"})
  with pytest.raises(ValueError, match="steps was 23 .* and is 30 now"):
    run(steps=30)
  assert run.rows() == before


def test_the_best_evaluated_step_is_returned_whoever_finds_it(tmp_path, capsys):
  def evaluate(state, step):
    return {"held_out/miss": jnp.abs(step - 9.0)}

  best = keeping.Keeping(newest=1, best="lowest")
  figures = {"held_out/miss": "miss", "held_out/other": "never logged"}
  surroundings = operations.Operations(keeping=best, score="held_out/miss", figures=figures)
  settings = {"evaluate": evaluate, "evaluate_every": 3, "surroundings": surroundings}
  expected = Run(tmp_path / "short", steps=9)()
  run = Run(tmp_path / "long", **settings)
  with pytest.raises(Interrupted):
    run(14)
  capsys.readouterr()
  assert_same(run(), expected)  # trained to the end
  done = next(line for line in capsys.readouterr().out.splitlines() if " done in " in line)
  assert done.endswith("compiling  step 9 kept  miss 0"), "which another process logged"
  assert_same(run(), expected)  # read back
  names = {path.name for path in (tmp_path / "long" / "checkpoints" / "toy").iterdir()}
  assert names == {"9", "23"}


@pytest.mark.parametrize("name", ["steps", "log_every", "save_every"])
def test_counts_below_one_are_refused(tmp_path, name):
  with pytest.raises(ValueError, match=f"{name}=0; use 1 or more"):
    Run(tmp_path)(**{name: 0})


def test_broken_steps_are_named_even_between_logged_ones(tmp_path, caplog):
  def advance(state, step):
    loss = jnp.where(step == 2, jnp.nan, 1.0)
    return state, {"policy/loss": loss, "skipped": jnp.float32(step == 4)}, {}

  settings = {"steps": 10, "log_every": 10, "save_every": 10, "metadata": {}}
  loop.fit("toy", advance, make_state(), workdir=tmp_path, **settings)
  said = [record.getMessage() for record in caplog.records if record.name == log.__name__]
  assert [message.split(";")[0] for message in said] == [
    "toy: STEP 3 WENT WRONG: policy/loss = nan",
    "toy: STEP 5 WENT WRONG: skipped = 1",
  ]


def test_metrics_that_are_not_finite_are_still_json(tmp_path):
  def advance(state, step):
    return state, {"loss": jnp.float32(jnp.nan), "ratio": jnp.float32(jnp.inf)}, {}

  settings = {"steps": 1, "log_every": 1, "save_every": 1, "metadata": {}}
  loop.fit("toy", advance, make_state(), workdir=tmp_path, **settings)
  text = (tmp_path / "metrics" / "toy.jsonl").read_text()
  (row,) = [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]
  assert row["loss"] is None
  assert row["ratio"] is None


def test_off_the_terminal_there_is_one_line_per_logged_step(tmp_path, capsys):
  Run(tmp_path)()
  *lines, last = capsys.readouterr().out.splitlines()
  assert last.startswith("toy done in ")
  assert [line.split()[1] for line in lines] == ["4/23", "8/23", "12/23", "16/23", "20/23", "23/23"]
  assert all("loss" in line and "steps/s" in line and "s left" in line for line in lines)


def test_a_row_that_was_cut_off_is_dropped_and_a_broken_one_is_not_hidden(tmp_path):
  path = tmp_path / "rows.jsonl"
  path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3, "lo')
  log = writers.JsonLines(path, step=1)
  log.write(2, {"loss": 0.5})
  log.close()
  assert path.read_text() == '{"step": 1}\n{"step": 2, "loss": 0.5}\n'
  path.write_text('{"step": 1\n{"step": 2}\n')
  with pytest.raises(ValueError, match="line 1"):
    writers.read(path)


@pytest.mark.parametrize("start", [0, 4])
def test_a_curve_begun_again_replaces_what_was_drawn(tmp_path, start):
  board = writers.TensorBoard(tmp_path, start)
  board.write(start + 1, {"loss": 1.0})
  board.close()
  (path,) = tmp_path.iterdir()
  events = [event_pb2.Event.FromString(record) for record in records(path)]
  assert [event.step for event in events if event.session_log.status] == [start + 1]


def records(path):
  """Yields the records of an event file: a length, its check, the content, its check."""
  content = path.read_bytes()
  while content:
    (size,) = struct.unpack("<Q", content[:8])
    yield content[12 : 12 + size]
    content = content[12 + size + 4 :]


def test_other_writers_get_the_logged_metrics(tmp_path, monkeypatch):
  calls = []
  run = types.SimpleNamespace(
    log=lambda metrics, step: calls.append((step, metrics["loss"])),
    finish=lambda: calls.append("finished"),
  )
  fake = types.SimpleNamespace(init=lambda **settings: calls.append(settings) or run)
  monkeypatch.setitem(sys.modules, "wandb", fake)
  toy = Run(
    tmp_path,
    surroundings=operations.Operations(
      extra_writers=lambda: [writers.WeightsAndBiases("project", "toy-1")]
    ),
  )
  toy()
  assert calls[0] == {"project": "project", "id": "toy-1", "resume": "allow"}
  assert calls[1:-1] == [(row["step"], row["loss"]) for row in toy.rows()]
  assert calls[-1] == "finished"
  said = len(calls)
  toy()
  assert len(calls) == said, "a finished stage begins no run there"
