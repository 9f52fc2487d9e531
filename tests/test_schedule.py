"""What a run says before it trains, and what its progress says of the time that is left."""

import io
import json
import types

import pytest
import rich.console

from pit_jax.commands import doctor
from pit_jax.configs import instructors, pit, reward, rlhf
from pit_jax.recipes import recipe, schedule
from pit_jax.training import timing, writers

FOLDS = {"sft": 117, "reward": 107, "judge": 0, "rl": 103}  # of 400 rows, about


def test_the_stages_of_recipes_and_their_steps_are_those_worked_out_by_hand():
  steps = {
    stage.name: stage.steps
    for stage in schedule.stages(pit.get_config("tiny"), recipe.named("pit"), FOLDS)
  }
  assert steps == {
    "sft_policy": 4,  # 117 rows in batches of 32
    "reward": 5,  # 1.25 · 107 / 32 = 4.2
    "rl_policy": 26,
    "sft_improver": 4,
    "gap_reward": 11,  # 1.5 · 107 / 16 = 10.03
    "pit_data": 14,
    "pit_policy": 14,
  }
  config = rlhf.get_config("tiny").unlock()
  config.sft.steps, config.reward.model, config.data.judge = 7, "a/directory", 0.2
  with_judge = schedule.stages(config, recipe.named("rlhf"), FOLDS | {"judge": 40})
  assert [(stage.name, stage.fold, stage.steps) for stage in with_judge] == [
    ("sft_policy", "sft", 7),
    ("rl_policy", "rl", 26),
    ("reward_judge", "judge", 2),
  ]
  alone = schedule.stages(reward.get_config("tiny"), recipe.named("reward"), {"reward": 320})
  assert [(stage.name, stage.steps) for stage in alone] == [("reward", 13), ("gap_reward", 15)]


def test_the_lines_name_folds_stages_and_how_often_rows_are_seen():
  config = pit.get_config("tiny")
  lines = [*schedule.lines(FOLDS, schedule.stages(config, recipe.named("pit"), FOLDS))]
  assert lines[0] == "rows: sft 117, reward 107, rl 103"
  assert lines[1] == "stage sft_policy: 4 steps of 32 rows, 1.09 times the 117 of sft"
  assert lines[3] == "stage rl_policy: 26 iterations of 128 rows, 32.3 times the 103 of rl"
  assert len(lines) == 8


def test_how_many_rows_are_packed_into_one_is_not_known_before():
  config = pit.get_config("tiny").unlock()
  config.sft.packing = True
  lines = [*schedule.lines(FOLDS, schedule.stages(config, recipe.named("pit"), FOLDS))]
  assert (
    lines[1] == "stage sft_policy: 1.09 times the 117 of sft, at most 4 steps of 32 packed rows"
  )
  config.sft.steps = 3
  lines = [*schedule.lines(FOLDS, schedule.stages(config, recipe.named("pit"), FOLDS))]
  assert lines[1] == "stage sft_policy: 3 steps of 32 packed rows of the 117 of sft"


def test_rows_that_are_made_of_a_fold_are_told_from_its_own():
  config = instructors.get_config("tiny")
  method = recipe.named("instructors")
  rows = {"sft": 700, "practice": 1_200}
  lines = [*schedule.lines(rows, schedule.stages(config, method, rows))]
  assert "stage le_1: 160 steps of 16 rows, 2 times 1,280 made of practice" in lines


def test_a_finished_run_took_the_steps_that_were_announced(finished_run):
  context = finished_run.context
  rows = {name: len(part) for name, part in context.rows.folds.items()}
  for stage in schedule.stages(context.config, context.recipe, rows):
    path = context.workdir / "metrics" / f"{stage.name}.jsonl"
    assert writers.read(path)[-1]["step"] == stage.steps, stage.name


@pytest.fixture
def clock(monkeypatch):
  """Seconds of the clock and of compiling, as a test sets them."""
  now = types.SimpleNamespace(time=0.0, compiled=100.0)
  monkeypatch.setattr(writers.time, "monotonic", lambda: now.time)
  monkeypatch.setattr(writers.compiling, "seconds", lambda: now.compiled)
  return now


WORK = {"before": ("rl", 9, 1.0), "a": ("sft", 10, 2.0), "b": ("rl", 5, 6.0)}


def test_compiling_is_no_part_of_the_rate_and_is_told_apart(clock):
  """The first step takes a minute, the others half a second; one of b does three times as much."""
  console = rich.console.Console(file=io.StringIO(), soft_wrap=True)
  progress = writers.Progress("a", 0, 10, timing.Outlook(WORK, evaluation=80.0), console)
  clock.time, clock.compiled = 60.0, 150.0
  assert progress.rate(1) is None
  progress.advance(1)
  assert progress.rate(1) is None
  clock.time, clock.compiled = 65.0, 153.0  # of the 5 seconds 3 compiled something else
  assert progress.rate(5) == 2.0
  progress.write(5, {"loss": 1.0})
  # 5 steps of ½ s; then 5 of 6 units at ¼ s each, 53 s of compiling, and 80 units of evaluation.
  assert console.file.getvalue().strip() == ("[2/3] a 5/10  loss 1  2.00 steps/s  about 83 s left")
  console.file.truncate(0)
  clock.time = 67.5
  progress.end(67.5, 10, {"validation loss": 0.51234})
  assert console.file.getvalue().strip("\0").splitlines() == [
    "[2/3] a done in 68 s, 53 s of it compiling  validation loss 0.5123",
    "  left about 80 s: training 8 s, compiling 53 s, evaluation 20 s",
  ]


def test_what_comes_once_is_no_pace_of_what_is_left(clock):
  """Steps 2 to 4 take a minute to trace beside compiling; later ones take a second each."""
  console = rich.console.Console(file=io.StringIO(), soft_wrap=True)
  progress = writers.Progress("b", 0, 10, timing.Outlook(WORK, evaluation=60.0), console)
  progress.advance(1)
  clock.time, clock.compiled = 63.0, 101.0
  progress.write(4, {})
  assert progress.left(4).evaluation == pytest.approx(10 * 62 / 3), "nothing else is known yet"
  clock.time = 65.0
  progress.write(6, {})
  clock.time, clock.compiled = 95.0, 110.0
  progress.write(8, {})
  assert progress.left(8) == timing.Left(training=2.0, compiling=0.0, evaluation=10.0)
  assert progress.rate(8) == pytest.approx(7 / 85), "what is logged as a rate is of all steps"


def test_lines_have_eighty_columns_and_lose_metrics_first(clock):
  console = rich.console.Console(file=io.StringIO(), soft_wrap=True)
  name = "pit_rp_difference_policy"
  outlook = timing.Outlook({name: ("rl", 14, 1.0)})
  progress = writers.Progress(name, 0, 14, outlook, console)
  clock.time = 1.0
  progress.advance(1)
  clock.time = 10.0
  metrics = {"objective/score": -0.12345, "objective/kl": 12.3456, "policy/loss": 0.1, "loss": 1.0}
  progress.write(2, metrics)
  progress.end(10.0, 14, {"score": 1.0, "KL": 2.0, "validation accuracy of a long name": 3.0})
  line, done = console.file.getvalue().splitlines()
  assert len(line) <= 80 and line.endswith("0.11 steps/s  about 108 s left")
  assert "loss 1" in line and "policy/loss" not in line
  assert len(done) <= 80 and done.endswith("score 1  KL 2")


def test_the_speed_of_a_kind_that_was_measured_is_its_own():
  outlook = timing.Outlook({"a": ("rl", 9, 2.0), "b": ("sft", 10, 1.0), "c": ("rl", 5, 4.0)}, 3.0)
  # rl takes ½ s for a unit, sft 3 s; a has compiled for 20 s and b for 30.
  assert outlook.left("a", 4, 1.0, 20.0) == timing.Left(4 + 10 * 0.5 + 5 * 2.0, 40.0, 1.5)
  assert outlook.left("b", 0, 3.0, 30.0) == timing.Left(5 * 2.0, 20.0, 9.0)
  assert outlook.left("c", 0, 2.0, 5.0) == timing.Left(0.0, 0.0, 1.5)
  assert outlook.left("nobody announced it", 1, 1.0, 1.0) is None
  assert [outlook.place(name) for name in "bx"] == ["[2/3] ", ""]


def test_stages_have_as_many_fewer_steps_as_the_last_of_their_kind():
  work = {"a": ("packed sft", 10, 1.0), "b": ("sft", 8, 1.0), "c": ("packed sft", 6, 2.0)}
  outlook = timing.Outlook(work)
  assert outlook.left("a", 2, 1.0, 0.0) == timing.Left(2 + 8 + 6 * 2.0, 0.0, 0.0)
  assert outlook.left("a", 2, 1.0, 0.0, total=5) == timing.Left(2 + 8 + 3 * 2.0, 0.0, 0.0)


def test_the_doctor_says_how_many_steps_a_configuration_makes(tmp_path):
  path, written = tmp_path / "rows.jsonl", tmp_path / "doctor.json"
  rows = ({"prompt": f"question {n}", "chosen": f"a{n}", "rejected": f"b{n}"} for n in range(400))
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  doctor.main([
    f"--source=jsonl:{path}",
    f"--json={written}",
    "--config=configs/pit.py:tiny",
    "--config.data.max_prompt_length=40",
    "--config.data.vocabulary=300",
    "--config.model.base=none",
  ])  # fmt: skip
  examined = json.loads(written.read_text())
  (steps,) = (one for one in examined["findings"] if one["name"] == "steps")
  assert steps["severity"] == "problem" and "sft_policy takes 4 steps" in steps["found"]
  assert examined["limits"] == {"prompt": 40, "response": 32}
  assert "learnt from the first fold" in examined["tokenizer"]


@pytest.mark.parametrize(
  ("words", "error"),
  [
    (["--config=configs/none.py:tiny"], "^error: --config"),
    (
      ["--config=configs/pit.py:tiny", "--config.data.nothing=1"],
      "^error: 'data.nothing' is no key",
    ),
  ],
)
def test_a_configuration_that_does_not_exist_is_one_line(words, error):
  with pytest.raises(SystemExit, match=error):
    doctor.main(["--source=synthetic", *words])
