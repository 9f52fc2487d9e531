"""What a run says before it trains, and what its progress says of the time that is left."""

import io
import json

import pytest
import rich.console

from pit_jax.commands import doctor
from pit_jax.configs import pit, reward, rlhf
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


def test_a_finished_run_took_the_steps_that_were_announced(finished_run):
  context = finished_run.context
  rows = {name: len(part) for name, part in context.rows.folds.items()}
  for stage in schedule.stages(context.config, context.recipe, rows):
    path = context.workdir / "metrics" / f"{stage.name}.jsonl"
    assert writers.read(path)[-1]["step"] == stage.steps, stage.name


def test_compiling_is_no_part_of_the_rate_nor_of_what_is_left(monkeypatch):
  """The first step takes a minute, the others half a second; one of b does three times as much."""
  monkeypatch.setattr(writers.time, "monotonic", lambda: 0.0)
  outlook = timing.Outlook({"before": ("rl", 9, 1.0), "a": ("sft", 10, 2.0), "b": ("rl", 5, 6.0)})
  console = rich.console.Console(file=io.StringIO(), soft_wrap=True)
  progress = writers.Progress("a", 0, 10, outlook, console)
  monkeypatch.setattr(writers.time, "monotonic", lambda: 60.0)
  assert progress.rate(1) is None
  progress.advance(1)
  assert progress.rate(1) is None
  monkeypatch.setattr(writers.time, "monotonic", lambda: 62.0)
  assert progress.rate(5) == 2.0
  progress.write(5, {"loss": 1.0})
  # 5 steps of ½ s; then 5 of 6 units at ¼ s each.
  assert console.file.getvalue().strip() == (
    "a 5/10  loss 1  2.00 steps/s  2 s left, about 10 s of training"
  )
  assert outlook.left("nobody announced it", 1.0) is None


def test_a_kind_that_was_measured_keeps_its_own_speed():
  outlook = timing.Outlook({"a": ("rl", 9, 2.0), "b": ("sft", 10, 1.0), "c": ("rl", 5, 4.0)})
  assert outlook.left("a", 1.0) == 10 * 0.5 + 5 * 2.0
  assert outlook.left("b", 3.0) == 5 * 2.0
  assert outlook.left("c", 2.0) == 0


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
