"""The report of a run whose RL maximised Python functions beside, or instead of, its own reward."""

import dataclasses
import json

import ml_collections
import pytest
import report_example
from test_report import METHOD, read

from pit_jax.evaluate import findings
from pit_jax.recipes import rlhf
from pit_jax.report import advice, curves, diagram, pages, plots, rewarded, tabular, training_tables
from pit_jax.run import context as contexts
from pit_jax.run import kinds

SHORT = "style:short_stop"
SUM = "R_P + 0.5 · short_stop"


def with_functions(weight=0.5, steps=40):
  """A run that RL was to give short answers; what it maximised fell, and the function rose."""
  results = report_example.closed_gate()
  stage = results["stages"]["rl_policy"]
  stage["steps"] = steps
  stage["rewards"] = rewarded.named(["reward", SHORT], {"reward": 1.0, SHORT: weight}, "R_P")
  stage["curve"] |= {
    "objective/score": [[step, -0.89 - 0.01 * step] for step in range(steps)],
    "objective/rewards/reward": [[step, 1.0 - 0.02 * step] for step in range(steps)],
    f"objective/rewards/{SHORT}": [[step, -4.0 + 0.05 * step] for step in range(steps)],
  }
  for point in results["frontier"]["chains"][0]["points"]:
    point["stage"] = "rl_policy"
  return results


@pytest.mark.parametrize(
  ("weights", "words", "unit"),
  [
    ({"reward": 1.0}, "R_P", "deviations"),
    ({"reward": 0.5}, "0.5 · R_P", ""),
    ({"reward": 1.0, SHORT: 1.0}, "R_P + short_stop", ""),
    ({SHORT: -0.25, "reward": 2.0}, "−0.25 · short_stop + 2 · R_P", ""),
    ({SHORT: 1.0}, "short_stop", ""),
    ({"a:brief": 1.0, "b:brief": 1.0}, "a:brief + b:brief", ""),
    ({}, "unknown", "deviations"),
  ],
)
def test_a_sum_is_said_as_it_is(weights, words, unit):
  stage = {"rewards": rewarded.named(list(weights), weights, "R_P")}
  assert rewarded.words(stage, "unknown") == words and rewarded.unit(stage) == unit


def test_results_hold_every_reward_of_a_stage(tmp_path):
  (tmp_path / "metrics").mkdir()
  logged = {"step": 2, "objective/score": 0.5, "objective/rewards/reward": 1.0}
  logged |= {f"objective/rewards/{SHORT}": -1.0}
  (tmp_path / "metrics" / "rl_policy.jsonl").write_text(json.dumps(logged) + "\n")
  job = {"kind": "rl", "fold": "rl", "rewards": (("reward", 1.0), (SHORT, 0.5))}
  recipe = dataclasses.replace(rlhf.RECIPE, stages=lambda config: [kinds.Stage("rl_policy", "rl")])
  config = ml_collections.ConfigDict({"rl": job})
  context = object.__new__(contexts.Context)  # of which only these are asked for
  known = {"workdir": tmp_path, "config": config, "recipe": recipe, "facts": {}}
  for name, value in known.items():
    object.__setattr__(context, name, value)
  stage = findings._stages(context)["rl_policy"]
  assert rewarded.words(stage) == SUM
  assert stage["curve"]["objective/rewards/reward"] == [[2, 1.0]]
  assert stage["curve"][f"objective/rewards/{SHORT}"] == [[2, -1.0]]


def test_each_reward_has_its_row_and_its_curve():
  results = pages.check(with_functions())
  table = training_tables.reinforced(results)
  rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
  rows = {row["reward"]: row for row in rows if row["stage"] == "rl_policy"}
  assert list(rows) == [SUM, "R_P", "short_stop"]
  assert rows[SUM]["reward, no unit"] == "−0.93 → −1.25"
  assert rows[SUM]["reward, deviations"] == "·", "a sum with a function has no such unit"
  assert rows["R_P"]["reward, deviations"] == "0.93 → 0.29"
  assert rows["short_stop"]["reward, no unit"] == "−3.83 → −2.22"
  assert "a unit of its own" in table.note

  drawn = plots.draw([curves.REINFORCEMENT], results, METHOD, True)["reinforcement"]
  titles = [axes.get_title("left") for axes in drawn.axes if axes.get_visible()]
  assert titles[0] == "reward, as each stage has it", "others have their own reward"
  assert titles[-2:] == ["R_P, deviations", "short_stop"]
  alone = {"rl_policy": results["stages"]["rl_policy"]}
  drawn = plots.draw([curves.REINFORCEMENT], results | {"stages": alone}, METHOD, True)
  assert drawn["reinforcement"].axes[0].get_title("left") == f"reward: {SUM}"


def test_the_page_knows_what_was_maximised(tmp_path):
  results = pages.check(with_functions())
  tables = tabular.build(results, METHOD)
  frontier = tables["frontier"]
  told = {row[0]: row[frontier.columns.index("optimises")] for row in frontier.rows}
  assert told == {"policy": SUM, "improver": "R_PIT"}
  assert "the proxy is R_P, which is not all that training maximised" in frontier.note
  columns = rlhf.RECIPE.page.diagram(results)
  (box,) = next(column for column in columns if column.title == "Fold 3").chains[0]
  assert box.lines[:4] == ("M_P reinforced", "for R_P", "+ 0.5 · short_stop", "near its start")
  assert "+ 0.5 · short_stop" in diagram.draw(columns, wide=True)

  results["stages"]["pit_data"]["rewards"] = rewarded.named([SHORT], {}, "R_PIT")
  boxes = METHOD.diagram(results)[2].chains[1]
  assert "for short_stop" in boxes[0].lines
  assert not [line for line in boxes[1].lines if line.startswith("for ")]
  assert "short_stop" in read(results, tmp_path).text
  plain = pages.check(report_example.example())
  assert "is the reward that training maximised" in tabular.build(plain, METHOD)["frontier"].note


def said(results):
  return " ".join(advice.of_run(results, METHOD))


def test_a_sum_that_fell_is_named_without_a_unit():
  text = said(with_functions())
  assert (
    f"RL of the policy lowered its reward, {SUM} (−0.93 → −1.25, of which ±0.01 may be noise)"
    in text
  )
  assert "its reward, R_P + 0.5 · short_stop (−0.93 → −1.25 deviations" not in text


@pytest.mark.parametrize(
  ("end", "noise", "words"),
  [
    (0.22, 0.2, "did not measurably raise its own reward (0.1"),
    (0.24, 0.001, "raised its own reward by little (0.1"),
    (-0.5, 0.001, "lowered its own reward (0.1"),
    (1.5, 0.2, ""),
  ],
)
def test_a_reward_rises_only_beyond_its_noise(end, noise, words):
  results = report_example.closed_gate()
  stage = results["stages"]["rl_policy"]
  points = [[step, 0.18 + (end - 0.18) * step / 40 + noise * (-1) ** step] for step in range(40)]
  stage["curve"]["objective/score"] = points
  text = said(results)
  assert (words in text) if words else ("RL of the policy" not in text)
  if words:
    assert "deviations, of which ±" in text


def test_the_noise_of_a_rise_is_twice_its_standard_error():
  rose, noise = training_tables.rise([[step, float(step % 2)] for step in range(100)])
  assert rose == 0 and noise == pytest.approx(2 * (2 * 0.5 / 20) ** 0.5)
  assert training_tables.rise([[1, 0.0], [2, 9.0]]) is None
