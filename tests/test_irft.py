"""Recipe `irft`: whose samples a block prefers the demonstrations to, and when it stops."""

import json
import math
from unittest import mock

import pytest
import tiny_run

from pit_jax.data import preferences
from pit_jax.feedback import writers
from pit_jax.recipes import irft, running
from pit_jax.recipes.irft import demonstrations, page
from pit_jax.report import advice

SMALL = {"data__rows": 200, "dpo__steps": 2, "dpo__batch_size": 8, "irft__blocks": 2}


def config(**changes):
  return tiny_run.config("irft", **SMALL | changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A finished run, as small as it comes, whose blocks never end early: read it."""
  workdir = tmp_path_factory.mktemp("irft") / "run"
  with mock.patch.object(demonstrations, "is_alike", return_value=False):
    running.run(config(), workdir)
  return workdir


def made(workdir, name):
  return [json.loads(line) for line in (workdir / "rows" / f"{name}.jsonl").open()]


def test_every_arm_is_compared_with_what_it_is_a_control_of(run):
  results = json.loads((run / "report" / "results.json").read_text())
  pairs = {(row["a"], row["b"]) for row in results["comparisons"]}
  assert pairs == {
    *(("irft", name) for name in ("sft", "sft_longer", "spin", "irft_fixed")),
    *((name, "sft") for name in ("sft_longer", "spin", "irft_fixed")),
    ("irft_resampled", "irft"),
  }
  stages = ["sft", "sft_longer", "irft_1", "irft_2", "spin", "irft_fixed_1", "irft_fixed_2"]
  assert {*results["stages"]} == {*stages}


def test_blocks_part_the_prompts_and_one_block_has_all(run):
  train = [row["prompt"] for row in made(run, "demonstrations")]
  whole = [row["prompt"] for row in made(run, "spin_samples")]
  assert whole == train
  held = {row.prompt for row in tiny_run.build(config(), run).rows.folds["sft_validation"]}
  parts = [
    [row["prompt"] for row in made(run, f"irft_{block}_samples") if row["prompt"] not in held]
    for block in (1, 2)
  ]
  assert [*parts[0], *parts[1]] == [prompt for prompt in train if prompt not in held]
  assert abs(len(parts[0]) - len(parts[1])) <= 1


def test_samples_are_renewed_and_those_of_the_control_are_not(run):
  """The first block of both arms asks `sft`; the second asks another model than the control's."""
  writers_of = {
    name: {row["written_by"] for row in made(run, f"{name}_samples")}
    for name in ("irft_2", "irft_fixed_2")
  }
  assert writers_of == {"irft_2": {"irft_2"}, "irft_fixed_2": {"irft_fixed_2"}}
  asked = []
  ask = writers.model

  def asking(name, inference, params):
    asked.append((name, params))
    return ask(name, inference, params)

  context = tiny_run.build(config(), run)
  with (
    mock.patch.object(writers, "model", asking),
    mock.patch.object(demonstrations, "is_alike", return_value=False),
  ):
    policies = irft.RECIPE.train(context)  # read back
  params = dict(asked)
  policy = policies["sft"].params
  for name in ("irft_1", "spin", "irft_fixed_1", "irft_fixed_2"):
    assert params[name] is policy, name
  assert params["irft_2"] is not policy


def test_it_stops_where_nothing_is_told_apart(tmp_path):
  context = tiny_run.build(config(), tmp_path)
  with mock.patch.object(demonstrations, "is_alike", return_value=True):
    policies = irft.RECIPE.train(context)
  logged = {path.stem for path in (tmp_path / "metrics").glob("*.jsonl")}
  assert logged == {"sft", "sft_longer", "irft_1", "spin", "irft_fixed_1"}
  assert policies["irft"].facts["steps"] == 2


@pytest.mark.parametrize(
  ("accuracy", "pairs", "alike"),
  [(0.5, 100, True), (0.55, 100, True), (0.5501, 100, False), (0.9, 1, True), (0.3, 9, True)],
)
def test_alike_is_a_half_and_one_standard_error(accuracy, pairs, alike):
  error = math.sqrt(0.5 * (1 - 0.5) / pairs)  # of a share of so many fair coins
  assert demonstrations.is_alike(accuracy, pairs) == alike == (accuracy <= 0.5 + error + 1e-12)


def test_parts_of_any_number_of_prompts():
  rows = tuple(preferences.Preference(f"q{i}", "a", "b") for i in range(11))
  fold = preferences.Fold(rows[:9], rows[9:])
  parts = irft._blocks(fold, 4)
  assert [len(part.rows) for part in parts] == [3, 3, 3]
  assert sum((part.rows for part in parts), ()) == fold.rows
  assert all(part.validation == fold.validation for part in parts)


def test_an_expert_that_is_not_there_is_named(tmp_path):
  with pytest.raises(ValueError, match="demonstrations.expert='who'; use a name of feedback.writ"):
    running.run(config(demonstrations__expert="who"), tmp_path / "run")


def test_pairs_of_other_prompts_than_those_imitated_are_refused(tmp_path):
  wrong = config(data__folds=("sft", "other"), dpo__fold="other")
  with pytest.raises(ValueError, match="dpo.fold='other': demonstrations are of sft.fold='sft'"):
    running.run(wrong, tmp_path / "run")


def test_the_drawing_has_one_chain_of_blocks_and_controls_that_begin_where_it_does(run):
  results = json.loads((run / "report" / "results.json").read_text())
  columns = page.pipeline(results)
  method, control = ([[box.lines for box in chain] for chain in chains]
                     for chains in zip(*(column.chains for column in columns)))  # fmt: skip
  assert [lines[0] for (lines,) in method] == ["sft", "irft_1 … irft_2", "irft"]
  assert "2 times" in method[1][0][1] and method[1][0][-1] == "4 steps"
  (about,) = control[1]
  assert about[0] == "controls, each from sft"
  assert about[1:] == (
    "sft_longer: imitates for longer, 3 steps",
    "spin: one block of all prompts, 2 steps",
    "irft_fixed: blocks, samples of sft alone, 4 steps",
  )
  text = (run / "report" / "report.html").read_text()
  assert "Arms, and the demonstrations" in text and "controls, each from sft" in text


def test_blocks_are_too_short_together_and_not_each_by_itself():
  stage = {"kind": "dpo", "section": "dpo", "curve": {}}
  results = {
    "stages": {f"irft_{number}": {**stage, "steps": 7} for number in (1, 2)},
    "headline": ["irft", "sft"],
    "comparisons": [
      {"a": "irft", "b": "sft", "judge": "gold", "n": 900, "delta": 0.0, "ci95": [-1.0, 1.0]}
    ],
  }
  (sentence,) = advice.of_run(results, page.PAGE)
  assert sentence == (
    "Stages irft_1 and irft_2 had 14 steps: give them more by --config.dpo.steps."
  )
  for block in results["stages"].values():
    block["steps"] = 19
  results["stages"]["irft_fixed_1"] = {**stage, "steps": 19}  # which the rule ended
  assert advice.of_run(results, page.PAGE) == [advice.GENERAL]


def test_an_order_that_stays_is_an_expectation_of_its_own():
  def row(b, delta, ci95, judge="gold"):
    counts = {"n": 1536, "win": 50 + delta / 2, "lose": 50 - delta / 2, "tie": 0.0}
    return {"a": "irft", "b": b, "judge": judge, "delta": delta, "ci95": ci95} | counts

  rows = [
    row("sft_longer", 1.0, (-4.0, 6.0)),
    row("spin", 60.0, (55.0, 65.0)),
    row("sft", 40.0, (35.0, 45.0)),
    row("sft", 0.5, (-1.0, 2.0), page.WORKS_FIRST),
  ]
  found, _ = page.said({"comparisons": rows, "systems": {}, "recipe": "irft"})
  assert [claim.outcome for claim in found] == ["not shown", *["for these models"] * 2]
  rows[-1] = row("sft", 9.0, (6.0, 12.0), page.WORKS_FIRST)
  found, _ = page.said({"comparisons": rows, "systems": {}, "recipe": "irft"})
  assert "opposite" in found[-1].outcome
