"""Seconds are counted where they were spent; a step that is not logged is not waited for."""

import json
import time
import types

import jax
import jax.numpy as jnp
import pytest

from pit_jax.training import loop, operations, timing


class Device:
  """Stands for an array on its way; notes when somebody waits for it."""

  def __init__(self, waits, name):
    self._waits, self._name = waits, name

  def block_until_ready(self):
    self._waits.append(self._name)
    return self


def test_only_a_logged_step_is_waited_for():
  waits = []
  phases = timing.Phases(lambda measured, seconds: {"speed": measured["tokens"] / seconds})
  for is_logged in (False, True, False):
    phases.begin(is_logged, Device(waits, "before"))
    made = phases.time("generate", lambda: Device(waits, "generate"))
    phases.time("train", lambda given: given and Device(waits, "train"), made)
    waits.append(is_logged)
    assert set(phases.metrics({"tokens": 1.0})) == (
      {"perf/time_generate", "perf/time_train", "perf/time_compile", "speed"}
      if is_logged
      else set()
    )
  assert waits == [False, "before", "generate", "train", True, False]


def test_seconds_and_speed_are_those_of_the_clock(monkeypatch):
  clock = iter([10.0, 12.0, 20.0, 21.0, 30.0, 35.0])
  # Nobody else's clock: what compiles an array reads one too.
  monkeypatch.setattr(timing, "time", types.SimpleNamespace(monotonic=lambda: next(clock)))
  phases = timing.Phases(lambda measured, seconds: {"speed": measured["tokens"] / seconds})
  phases.begin(True, ())
  for name in ("generate", "score", "train"):
    phases.time(name, lambda: jnp.zeros(()))
  assert phases.metrics({"tokens": 4.0}) == {
    "perf/time_generate": 2.0,
    "perf/time_score": 1.0,
    "perf/time_train": 5.0,
    "perf/time_compile": pytest.approx(0.0, abs=1.0),  # jnp.zeros may be one that compiles
    "speed": 4.0 / 8.0,
  }


def test_a_step_that_compiles_says_so():
  phases = timing.Phases()
  phases.begin(True, ())
  phases.time("train", jax.jit(lambda x: x + 1.25), jnp.zeros(3))
  assert phases.metrics({})["perf/time_compile"] > 0
  function = jax.jit(lambda x: x + 1.75)
  values = jnp.zeros(3)
  function(values)
  phases.begin(True, ())
  phases.time("train", function, values)
  assert phases.metrics({})["perf/time_compile"] == 0


def train(workdir, steps=12, stop=None, **more):
  def advance(state, index):
    if index == stop:
      raise KeyboardInterrupt
    time.sleep(0.02)
    return {"w": state["w"] + 1}, {"loss": state["w"] * 0.5}, {}

  return loop.fit(
    "toy", advance, {"w": jnp.zeros(())}, steps=steps, workdir=workdir, metadata={}, log_every=2,
    save_every=4, surroundings=operations.Operations(**more),
  )  # fmt: skip


def test_goodput_counts_what_was_kept_over_all_processes(tmp_path):
  assert timing.goodput(tmp_path) is None
  began = time.monotonic()
  timing.begin(tmp_path)
  with pytest.raises(KeyboardInterrupt):
    train(tmp_path, stop=7)  # steps 5 to 7 are lost
  between = 0.5  # seconds in which no process works on the run
  time.sleep(between)
  timing.begin(tmp_path)
  train(tmp_path)
  lived, found = time.monotonic() - began, timing.goodput(tmp_path)
  assert found["sessions"] == 2
  assert 0 < found["seconds"] <= lived - between
  # Of the first process steps 2 to 4 were kept, of the second 6 to 12: ten, of 0.02 s and more.
  assert 10 * 0.02 <= found["kept"] < found["seconds"]
  assert found["share"] == found["kept"] / found["seconds"]


def test_goodput_adds_sessions_up(tmp_path):
  rows = [
    {"at": 100.0, "begins": True},
    {"at": 101.0, "stage": "a", "from": 0},
    {"at": 110.0, "stage": "a", "step": 4, "kept": 6.0},
    {"at": 130.0, "stage": "a", "step": 8, "kept": 11.0},  # killed before it was complete
    {"at": 500.0, "begins": True},
    {"at": 501.0, "stage": "a", "from": 4},
    {"at": 520.0, "stage": "a", "step": 8, "kept": 19.0},
  ]
  text = "".join(json.dumps(row) + "\n" for row in rows)
  (tmp_path / "goodput.jsonl").write_text(text + '{"at": 52')
  assert timing.goodput(tmp_path) == {"sessions": 2, "seconds": 50.0, "kept": 25.0, "share": 0.5}


def test_goodput_counts_what_is_no_training_too(tmp_path):
  rows = [
    {"at": 100.0, "begins": True},
    {"at": 101.0, "stage": "a", "from": 0},
    {"at": 110.0, "stage": "a", "step": 4, "kept": 6.0},
  ]
  text = "".join(json.dumps(row) + "\n" for row in rows)
  (tmp_path / "goodput.jsonl").write_text(text)
  before = timing.goodput(tmp_path)
  timing.alive(tmp_path, "evaluation")
  after = timing.goodput(tmp_path)
  assert after["seconds"] == pytest.approx(time.time() - 100.0, abs=5)
  assert (after["kept"], after["sessions"]) == (before["kept"], before["sessions"])


@pytest.mark.parametrize("last", [3, 40])  # 40: under way when the run ends
def test_the_steps_asked_for_are_traced(tmp_path, monkeypatch, last):
  calls, place = [], str(tmp_path / "profile" / "toy")
  monkeypatch.setattr(jax.profiler, "start_trace", lambda directory: calls.append(directory))
  monkeypatch.setattr(jax.profiler, "stop_trace", lambda: calls.append("stop"))
  train(tmp_path, trace=timing.Trace(first=2, last=last))
  assert calls == [place, "stop"]
  with pytest.raises(ValueError, match="steps 4 to 3"):
    timing.Trace(first=4, last=3)


def test_a_trace_is_written(tmp_path):
  train(tmp_path, steps=4, trace=timing.Trace(first=2, last=3))
  assert list((tmp_path / "profile" / "toy").rglob("*.xplane.pb"))
