"""What stages tell of themselves: metrics, seconds, the scale of rewards."""

import json

import numpy as np
import pytest
import tiny_run

from pit_jax.run import context as contexts
from pit_jax.stages import calibration
from pit_jax.training import interruption, writers
from pit_jax.training import step as training_step


def test_iterations_tell_where_their_seconds_went(finished_run):
  rows = writers.read(finished_run.workdir / "metrics" / "rl_policy.jsonl")
  for row in rows:
    parts = [row[f"perf/time_{name}"] for name in ("generate", "score", "train")]
    sampled = tiny_run.SMALL["rl.batch_size"] * row["tokens/response_length"]
    assert min(parts) > 0
    assert row["perf/tokens_per_second"] == pytest.approx(sampled / sum(parts))
    assert "perf/mfu" not in row  # of a CPU no peak is known
  assert rows[-1]["perf/time_checkpoint"] > 0


@pytest.mark.parametrize("stage", ["sft_policy", "sft_improver", "reward", "gap_reward"])
def test_supervised_steps_tell_how_many_tokens_they_read_in_what_time(finished_run, stage):
  for row in writers.read(finished_run.workdir / "metrics" / f"{stage}.jsonl"):
    rate = row["tokens/read"] / row["perf/time_train"]
    assert row["perf/tokens_per_second"] == pytest.approx(rate)
    assert 0 < row["tokens/padding"] < 1


def test_the_report_has_the_speed_of_each_stages_median_step(finished_run):
  results = json.loads((finished_run.workdir / "report" / "results.json").read_text())
  assert results["speeds"].keys() == results["stages"].keys()
  for name, speed in results["speeds"].items():
    rows = writers.read(finished_run.workdir / "metrics" / f"{name}.jsonl")
    rates = [row["perf/tokens_per_second"] for row in rows if not row["perf/time_compile"]]
    assert len(rows) == results["stages"][name]["steps"]
    assert speed == ({"tokens_per_second": pytest.approx(np.median(rates))} if rates else {})


def test_the_clock_of_a_run_covers_its_stages_and_its_evaluation(finished_run):
  results = json.loads((finished_run.workdir / "report" / "results.json").read_text())
  assert results["goodput"]["seconds"] >= 0.98 * sum(results["seconds"].values())


def test_the_report_has_what_was_measured_on_rows_held_back(finished_run):
  results = json.loads((finished_run.workdir / "report" / "results.json").read_text())
  held = {name: set(stage["validation"]) for name, stage in results["stages"].items()}
  assert held["sft_policy"] == {"loss"} and "accuracy" in held["reward"]
  logged = writers.read(finished_run.workdir / "metrics" / "sft_policy.jsonl")
  values = [[row["step"], row["validation/loss"]] for row in logged if "validation/loss" in row]
  assert results["stages"]["sft_policy"]["validation"]["loss"] == values


def test_every_stage_logs_how_far_it_is_and_what_it_is_known_by(finished_run):
  rows = {
    stage: writers.read(finished_run.workdir / "metrics" / f"{stage}.jsonl")
    for stage in ("sft_policy", "rl_policy", "pit_data", "pit_policy")
  }
  folds, batch = finished_run.context.rows.folds, tiny_run.SMALL["rl.batch_size"]
  steps = range(1, tiny_run.STEPS + 1)
  for stage in ("rl_policy", "pit_data", "pit_policy"):
    asked = len(folds["rl"]) * (2 if stage == "pit_data" else 1)  # two references for each prompt
    assert [row["episode"] for row in rows[stage]] == [batch * step for step in steps]
    assert [row["epoch"] for row in rows[stage]] == [batch * step / asked for step in steps]
    for row in rows[stage]:
      assert row["tokens/truncated"] == pytest.approx(1 - row["val/eos_rate"], abs=1e-6)
      assert row["value/grad_norm"] > 0
    warming, *learning = rows["rl_policy"]
    assert "policy/grad_norm" not in warming and warming["policy/updates"] == 0
    assert all(row["policy/grad_norm"] > 0 for row in learning)
  fractions = [
    row["curriculum/fraction"] for name in ("data", "policy") for row in rows[f"pit_{name}"]
  ]
  np.testing.assert_allclose(fractions, np.arange(1, 7) / 6)
  assert [row["curriculum/stage"] for row in rows["pit_policy"]] == [2] * tiny_run.STEPS
  facts = finished_run.models.gap_rewards["pit"].facts
  zero = facts["zero_point"] + facts["shift"]
  for row in rows["pit_policy"]:
    gap = row["objective/score"] - zero
    assert row["objective/gap_reward"] == pytest.approx(gap, abs=1e-5)
    assert row["objective/win_vs_reference"] * batch == pytest.approx(
      round(row["objective/win_vs_reference"] * batch), abs=1e-5
    )
  rates = [row["learning_rate"] for row in rows["sft_policy"]]
  job = finished_run.context.config.sft
  wanted = training_step.warmup_linear(job.learning_rate, tiny_run.STEPS, 0)
  np.testing.assert_allclose(rates, [float(wanted(step)) for step in range(tiny_run.STEPS)])


@pytest.mark.parametrize("scores", [[0.25] * 6, [4.0, 4.00001, 4.0], [1.0, np.nan], [2.0]])
def test_scores_that_tell_nothing_apart_have_no_scale(copied, scores):
  (copied.workdir / "calibration" / "reward.json").unlink()
  with pytest.raises(ValueError, match=f"reward gives {len(scores)} samples"):
    calibration.calibrate(copied, "reward", dict, lambda *_: np.float32(scores))
  assert not (copied.workdir / "calibration" / "reward.json").exists()


@pytest.mark.parametrize("ended", [interruption.Interrupted, ZeroDivisionError])
def test_the_seconds_before_an_interruption_count(copied, monkeypatch, ended):
  clock = iter([10.0, 17.5])
  monkeypatch.setattr(contexts.time, "monotonic", lambda: next(clock))
  before = copied.read_json("seconds.json")["reward"]
  with pytest.raises(ended), copied.timed("reward"):
    raise ended
  gained = copied.read_json("seconds.json")["reward"] - before
  assert gained == pytest.approx(7.5 if ended is interruption.Interrupted else 0.0, abs=0.01)
