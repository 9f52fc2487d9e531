"""Sweeps: what is tried, by whom, and that a killed worker costs no trial and doubles none."""

import concurrent.futures
import json
import os
import pathlib
import runpy
import subprocess
import sys
import threading
import time

import pytest
import tiny_run

optuna = pytest.importorskip("optuna", reason="optuna is absent; install the extra `sweep`")

from pit_jax.commands import sweep as command  # noqa: E402
from pit_jax.tools.sweep import processes, space, summary, trials  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILE = """
def get_sweep():
  return {{"sampler": {sampler!r}, "trials": {trials}, "space": {values}}}
"""
# Takes the place of launch/train.py: says who began and ended it, and finds what it was given.
TRAIN = """
import json, os, pathlib, sys, time
given = dict(word.split("=", 1) for word in sys.argv[1:])
folder = pathlib.Path(given["--workdir"])
def note(what):
  with (folder / "notes.jsonl").open("a") as file:
    file.write(json.dumps([what, os.getppid()]) + "\\n")
note("began")
time.sleep(float(given.get("--config.sleep", 0)))
value = float(given["--config.rl.kl_coefficient"])
if value > 1:
  sys.exit("no such luck")
row = {"a": "pit", "b": "original", "judge": "gold", "temperature": 1.0, "n": 20,
       "delta": 10 * value, "ci95": [0, 1]}
stages = {"sft": {"curve": {}}, "pit": {"curve": {"objective/kl": [[0, 0.5], [1, value]]}}}
stages["pit"]["curve"]["tokens/response_length"] = [[0, 9.0], [1, 12.5]]
(folder / "metrics").mkdir()
lines = [{"step": 1, "objective/rewards/gap": 0.1}, {"step": 2, "objective/rewards/gap": 0.75,
         "objective/rewards/mine:brevity": -2.25}, {"step": 2, "validation/objective/kl": 3.0}]
(folder / "metrics" / "pit.jsonl").write_text("\\n".join(map(json.dumps, lines)) + "\\n")
(folder / "report").mkdir()
results = {"comparisons": [row], "stages": stages, "seconds": {"a": 2.0, "b": 3.0}}
results["headline"] = ["pit", "original"]
note("ended")
(folder / "report" / "results.json").write_text(json.dumps(results))
"""


def written(tmp_path, sampler, values, count=0):
  path = tmp_path / "sweep.py"
  path.write_text(FILE.format(sampler=sampler, trials=count, values=values))
  return path


def load(tmp_path, sampler, values, count=0):
  return space.load(written(tmp_path, sampler, values, count), tiny_run.config())


# What is tried


def test_a_grid_is_every_combination(tmp_path):
  found = load(tmp_path, "grid", {"rl.kl_coefficient": (0.1, 0.2), "curriculum[1].steps": (3, 4)})
  wanted = [(0.1, 3), (0.1, 4), (0.2, 3), (0.2, 4)]
  assert found.slots() == [
    {"rl.kl_coefficient": kl, "curriculum[1].steps": steps} for kl, steps in wanted
  ]


def test_random_values_lie_within_their_ranges_and_are_always_the_same(tmp_path):
  values = {
    "rl.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "rl.batch_size": {"low": 8, "high": 64},
    "seed": (3, 5),
  }
  found = load(tmp_path, "random", values, 60).slots()
  assert found == load(tmp_path, "random", values, 60).slots() and len(found) == 60
  rates = sorted(slot["rl.learning_rate"] for slot in found)
  assert rates[0] >= 1e-4 and rates[-1] <= 1e-2 and 5e-4 < rates[30] < 2e-3
  assert {type(slot["rl.batch_size"]) for slot in found} == {int}
  assert {slot["seed"] for slot in found} == {3, 5}


@pytest.mark.parametrize("name", ["kl", "rates"])
def test_the_sweeps_that_are_here_fit_the_default(name):
  assert space.load(ROOT / "configs" / "sweeps" / f"{name}.py", tiny_run.config()).slots()


@pytest.mark.parametrize(
  "sampler, values, count, said",
  [
    ("grid", {"rl.kl_coeficient": (1,)}, 0, r"is no key of .*; near it are .*rl\.kl_coefficient"),
    ("grid", {"seed": {"low": 0, "high": 3}}, 0, r"\['seed'\] are ranges, and a grid needs values"),
    ("random", {"seed": {"low": 3, "high": 3}}, 2, "low must be below high"),
    ("random", {"rl.clip": {"low": 0.0, "high": 3.0, "log": True}}, 2, "above 0 where log is set"),
    ("random", {"seed": (1, 2)}, 0, "trials=0 of sampler 'random'; use 1 or more"),
    ("grid", {"rl.rewards[1][1]": (0.0, 1.0)}, 0, r"rl.rewards\[1\]\[1\] is an element of a tuple"),
    ("grid", {"seed": "12"}, 0, "give a tuple of values"),
    ("grid", {}, 0, "its space is empty"),
    ("annealing", {"seed": (1,)}, 0, "'annealing' is not known; use one of"),
  ],
)
def test_what_is_no_sweep_is_refused(tmp_path, sampler, values, count, said):
  with pytest.raises(ValueError, match=said) as error:
    load(tmp_path, sampler, values, count)
  assert "sweep.py" in str(error.value)


def test_a_file_without_a_sweep_is_named(tmp_path):
  (tmp_path / "none.py").write_text("x = 1\n")
  for name in ("none.py", "absent.py"):
    with pytest.raises(ValueError, match=f"{name} holds no sweep"):
      space.load(tmp_path / name, tiny_run.config())


# Who tries it


def sweeping(tmp_path, sweep, *arguments):
  storage = f"sqlite:///{tmp_path / 'sweep.db'}"
  return trials.Sweeping(sweep, arguments, tmp_path, storage, 1, [str(tmp_path / "train.py")])


@pytest.fixture
def train(tmp_path):
  (tmp_path / "train.py").write_text(TRAIN)


def notes(tmp_path):
  """Returns what happened in each trial's folder, in order."""
  return {
    int(path.parent.name): [json.loads(line) for line in path.read_text().splitlines()]
    for path in (tmp_path / "trials").glob("*/notes.jsonl")
  }


def test_what_a_trials_process_reads_first_is_small():
  """Every trial pays for it, before the run that it is there for imports anything."""
  module = "pit_jax.tools.sweep.processes"
  code = f"import sys; import {module}; print({{'jax', 'numpy', 'optuna'}} & {{*sys.modules}})"
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert done.stdout == "set()\n"


WORKER = """
import sys, pathlib
sys.path[:0] = [{tests!r}, {root!r}]
if __name__ == "__main__":  # a trial's process reads this file too, and needs none of it
  import test_sweep
  tmp_path = pathlib.Path({tmp_path!r})
  sweep = test_sweep.space.load(tmp_path / "sweep.py", test_sweep.tiny_run.config())
  test_sweep.sweeping(tmp_path, sweep, "--config.sleep=2").work(1)
"""


def test_two_workers_one_of_them_killed_complete_every_trial_once(train, tmp_path):
  values = {"rl.kl_coefficient": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)}
  script = tmp_path / "worker.py"
  tests = str(pathlib.Path(__file__).parent)
  told = {"tests": tests, "root": str(ROOT), "tmp_path": str(tmp_path)}
  script.write_text(WORKER.format(**told))
  sweep = load(tmp_path, "grid", values)  # written once, before both read it
  first, second = (
    subprocess.Popen([sys.executable, script], env=os.environ | {"JAX_PLATFORMS": "cpu"})
    for _ in range(2)
  )

  def at_work(worker):
    return any(taken == [["began", worker.pid]] for taken in notes(tmp_path).values())

  deadline = time.monotonic() + 300
  while not (at_work(first) and at_work(second)):
    assert time.monotonic() < deadline and first.poll() is None
    time.sleep(0.1)
  first.kill()
  assert second.wait(timeout=300) == 0
  happened = notes(tmp_path)
  assert sorted(happened) == list(range(6))
  ends = [[worker for what, worker in taken if what == "ended"] for taken in happened.values()]
  assert all(len(workers) == 1 for workers in ends)
  broken = [taken for taken in happened.values() if len(taken) > 2]
  assert broken == [[["began", first.pid], ["began", second.pid], ["ended", second.pid]]]
  found = summary.rows(sweeping(tmp_path, sweep, "--config.sleep=2").open(), sweep)
  assert [row["slot"] for row in found] == [5, 4, 3, 2, 1, 0] and found[0]["delta"] == 6.0
  assert {row["state"] for row in found} == {"done"}
  assert sorted(row["taken"] for row in found) == [1, 1, 1, 1, 1, 2]


def test_no_trial_is_taken_twice(tmp_path):
  """Eight workers that ask at the same moment, again and again."""
  values = tuple(0.01 * (1 + i) for i in range(24))
  run = sweeping(tmp_path, load(tmp_path, "grid", {"rl.kl_coefficient": values}))
  run.open()
  together = threading.Barrier(8)

  def take(_):
    study, taken = run.open(), []
    for _ in range(3):
      together.wait()
      taken.append(study.ask().user_attrs[trials.SLOT])
    return taken

  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    taken = [slot for slots in pool.map(take, range(8)) for slot in slots]
  assert sorted(taken) == list(range(24))


def test_a_run_that_fails_is_named_and_the_others_go_on(train, tmp_path, capsys):
  sweep = load(tmp_path, "grid", {"rl.kl_coefficient": (0.5, 2.0, 0.7)})
  run = sweeping(tmp_path, sweep)
  run.work(2)
  ended = sorted(capsys.readouterr().out.splitlines())
  assert ended[0] == "trial 000 of 3 done in 5 s: Δ +5.0 %, KL 0.5 nats; rl.kl_coefficient=0.5"
  assert ended[1].startswith("trial 001 of 3 failed: exit status 1") and len(ended) == 3
  summary.write(run.open(), sweep, tmp_path)
  found = json.loads((tmp_path / "sweep.json").read_text())
  assert [(row["slot"], row["state"]) for row in found] == [(2, "done"), (0, "done"), (1, "failed")]
  assert "no such luck" in found[2]["error"] and found[2]["values"] == {"rl.kl_coefficient": 2.0}
  assert (found[0]["kl"], found[0]["seconds"], found[0]["judge"]) == (0.7, 5.0, "gold")
  assert found[0]["tokens"] == 12.5
  assert found[0]["rewards"] == {"gap": 0.75, "mine:brevity": -2.25}
  said = capsys.readouterr().out
  assert "12.5" in said and "brevity" in said and "-2.2" in said.replace("−", "-")
  assert "+7.0" in said and "no such luck" in said
  assert all((tmp_path / f"{name}.png").stat().st_size > 0 for name in ("frontier", "parallel"))


def test_an_interrupted_trial_is_given_back(train, tmp_path, monkeypatch):
  sweep = load(tmp_path, "grid", {"rl.kl_coefficient": (0.5, 0.7)})
  run = sweeping(tmp_path, sweep)

  def interrupted(command, log):
    stopping.set()
    raise processes.RunFailed("exit status 130")

  with monkeypatch.context() as patch:
    patch.setattr(processes, "train", interrupted)
    stopping = threading.Event()
    run._take_all(stopping)
  states = [row["state"] for row in summary.rows(run.open(), run.sweep)]
  assert states == ["waiting", "waiting"]
  run.work(1)
  assert [row["state"] for row in summary.rows(run.open(), run.sweep)] == ["done", "done"]


def test_values_are_searched_where_the_sweep_says(train, tmp_path):
  values = {"rl.kl_coefficient": {"low": 0.1, "high": 0.9}}
  run = sweeping(tmp_path, load(tmp_path, "tpe", values, 4))
  run.work(1)
  found = summary.rows(run.open(), run.sweep)
  tried = {row["values"]["rl.kl_coefficient"] for row in found}
  assert len(tried) == 4 and all(0.1 <= value <= 0.9 for value in tried)


def test_a_finished_sweep_tries_nothing_again_and_another_one_is_refused(train, tmp_path):
  sweep = load(tmp_path, "grid", {"rl.kl_coefficient": (0.5,)})
  for _ in range(2):
    sweeping(tmp_path, sweep).work(1)
  assert [what for what, _ in notes(tmp_path)[0]] == ["began", "ended"]
  other = load(tmp_path, "grid", {"rl.kl_coefficient": (0.25,)})
  with pytest.raises(ValueError, match="holds another sweep"):
    sweeping(tmp_path, other).open()


def launched(*arguments):
  command.main(list(arguments))


@pytest.mark.slow
def test_real_runs_are_compared(tmp_path, capsys, unrendered, monkeypatch):
  """Its trials are in this process; the other tests here have them in processes of their own."""

  def train(command, _):
    monkeypatch.setattr(sys, "argv", command)
    with tiny_run.here():
      runpy.run_path(command[0], run_name="__main__")

  monkeypatch.setattr(processes, "train", train)
  path = written(tmp_path, "grid", {"rl.kl_coefficient": (0.2, 0.4)})
  flags = tiny_run.flags("rlhf")
  launched("--config=configs/rlhf.py:tiny", f"--sweep={path}", f"--workdir={tmp_path}", *flags)
  found = json.loads((tmp_path / "sweep.json").read_text())
  assert [row["state"] for row in found] == ["done", "done"]
  assert {row["values"]["rl.kl_coefficient"] for row in found} == {0.2, 0.4}
  assert all(-100 <= row["delta"] <= 100 and row["judge"] == "gold" for row in found)
  assert "rl.kl_coefficient" in capsys.readouterr().out


def test_a_sweep_that_cannot_be_is_an_error_and_no_traceback(tmp_path):
  path = written(tmp_path, "grid", {"rl.nothing": (1,)})
  with pytest.raises(SystemExit, match="'rl.nothing' is no key of the configuration"):
    launched("--config=configs/pit.py:tiny", f"--sweep={path}", f"--workdir={tmp_path}")
  with pytest.raises(SystemExit):
    launched("--config=configs/pit.py:tiny", f"--sweep={path}", f"--workdir={tmp_path}", "--x=1")
