"""What runs say of their work: nothing of short work, and of long work how far it is."""

import types
from unittest import mock

import pytest
import tiny_run

from pit_jax import progress
from pit_jax.evaluate import findings, subject
from pit_jax.recipes import recipe
from pit_jax.run import context as contexts
from pit_jax.tools.bench import timing as bench
from pit_jax.training import verify


@pytest.fixture
def now(monkeypatch):
  """The clock of progress, as a test sets it."""
  clock = types.SimpleNamespace(seconds=0.0)
  monkeypatch.setattr(progress.time, "monotonic", lambda: clock.seconds)
  progress.said()
  return clock


def test_work_says_how_far_it_is_after_a_while_of_silence(now, capsys):
  def work():
    count = progress.Count("sampling", 1000, "rows")
    for _ in range(10):
      now.seconds += 6
      count.add(100)

  work()
  assert capsys.readouterr().out == "", "nobody asked for lines"
  progress.said()
  with progress.shown():
    work()
  assert capsys.readouterr().out.splitlines() == [
    "  sampling: 300 of 1,000 rows  about 42 s left",
    "  sampling: 600 of 1,000 rows  about 24 s left",
    "  sampling: 900 of 1,000 rows  about 6 s left",
  ]


def test_what_is_left_is_told_without_the_seconds_of_compiling(now, monkeypatch, capsys):
  compiled = types.SimpleNamespace(seconds=7.0)
  monkeypatch.setattr(progress.compiling, "seconds", lambda: compiled.seconds)
  with progress.shown():
    count = progress.Count("sampling", 1000, "rows")
    now.seconds, compiled.seconds = 40.0, 37.0  # 30 s of compiling, and 10 s of work
    count.add(100)
    now.seconds += 20
    count.add(200)
    now.seconds, compiled.seconds = now.seconds + 40, compiled.seconds + 30  # another program
    count.add(100)
  assert capsys.readouterr().out.splitlines() == [
    "  sampling: 100 of 1,000 rows  about 90 s left",
    "  sampling: 300 of 1,000 rows  about 70 s left",
    "  sampling: 400 of 1,000 rows  about 60 s left",
  ]


def test_many_short_pieces_of_work_are_not_silent_together(now, capsys):
  with progress.shown():
    for _ in range(10):
      count = progress.Count("scoring", 2, "rows")
      now.seconds += 2
      count.add(1)
      progress.Count("scoring", 1, "rows").add(1)
  assert capsys.readouterr().out == "  scoring: 1 of 2 rows  about 2 s left\n"


def test_a_line_has_eighty_columns():
  assert progress.joined("a" * 100) == "a" * 79 + "…"
  assert progress.joined("a" * 70, "bb", "c" * 20, "dd") == "a" * 70 + "  bb  dd"
  assert [progress.duration(s) for s in (7, 600, 9000)] == ["7 s", "10 min", "2.5 h"]


def test_every_experiment_says_that_it_is_finished(now, tmp_path, capsys):
  def slow(run):
    now.seconds += 30
    return {"found": 1}

  with progress.shown():
    context = mock.Mock(spec=contexts.Context, workdir=tmp_path)
    run = mock.Mock(spec=subject.Subject)
    parts = findings._measured(context, run, {"main": slow, "rounds": slow})
  assert parts == {"main": {"found": 1}, "rounds": {"found": 1}}
  assert capsys.readouterr().out.splitlines() == [
    "evaluation 1 of 2, main: 30 s",
    "evaluation 2 of 2, rounds: 30 s",
  ]


def test_the_bench_says_what_it_measures_and_how_far_it_is(now, capsys):
  def case(name, seconds):
    def run():
      now.seconds += seconds

    return bench.Case(name, 60, lambda: run)

  with progress.shown():
    bench.measure([case("sft", 1), case("ppo", 8)], {"ppo": case("ppo", 12)}, repeats=1)
  said = capsys.readouterr().out.splitlines()
  assert said[0].startswith("case 1 of 2, sft: ") and said[0].endswith(" tokens/s")
  assert said[1] == "  case 2 of 2, ppo: 2 of 4 calls  about 20 s left"
  assert said[-1].startswith("case 2 of 2, ppo: ") and ", the peer " in said[-1]


def test_verifying_says_which_run_is_on_its_way(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(progress, "EVERY", 0.3)
  monkeypatch.setattr(verify, "tell", lambda *_: 0)
  monkeypatch.setattr(verify, "chain", lambda workdir: [])
  command = ["/bin/sh", "-c", "echo step 7 of 9; sleep 0.5"]
  verify.run(tiny_run.config().to_dict(), tmp_path, command, steps=2, stop=1)
  said = capsys.readouterr().out.splitlines()
  assert said[0] == "  start 1: step 7 of 9"
  assert any(line.startswith("verify: run 1 of 2, undisturbed: ") for line in said)
  assert said[-1].startswith("verify: run 2 of 2, with restarts: ") and "1 start" in said[-1]


@pytest.mark.parametrize("name", [*recipe.names()])
def test_every_kind_says_what_a_finished_stage_is_known_by(name):
  for kind in recipe.named(name).kinds.values():
    assert kind.figures or not kind.learns
    line = progress.joined("", *(f"{label} -0.1234" for label in kind.figures.values()))
    assert all(label in line for label in kind.figures.values())


def test_a_finished_stage_is_known_by_what_its_metrics_have(finished_run):
  context = finished_run.context
  for stage in context.recipe.stages(context.config):
    path = context.workdir / "metrics" / f"{stage.name}.jsonl"
    kind = context.recipe.kinds[stage.kind or context.config[stage.section].kind]
    if kind.learns:
      assert any(f'"{name}"' in path.read_text() for name in kind.figures), stage.name
