"""An improver under principles whose gap reward is one of likelihoods, without a head."""

import dataclasses
import json

import numpy as np
import pytest
import tiny_run
from salmon_run import IMPLICIT, OTHERS, config, ratio

import pit_jax
from pit_jax import types
from pit_jax.commands import convert
from pit_jax.recipes import running, salmon
from pit_jax.recipes.salmon import labelling
from pit_jax.rollout import implicit
from pit_jax.stages import rl, sft
from pit_jax.stages.feedback import PARTS

CHANGES = IMPLICIT | {
  "salmon__improver": True, "salmon__controls": False, "salmon__others": OTHERS[:1],
}  # fmt: skip
VERSIONS = ("made", "kept", "anew")
LISTS = (["tone", "not:closing"], ["greeting"])
TEXTS = ["Hi Kim, it is Oak.", "Well, Elm gets it. I am too busy."]
OTHER = ["Kim, Oak.", "so"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A finished run, as small as it comes: read it."""
  workdir = tmp_path_factory.mktemp("gap") / "run"
  with tiny_run.unrendered():
    running.run(config(**CHANGES), workdir)
  return workdir


@pytest.fixture(scope="module")
def given(run):
  """The context, what RL was given, and what the recipe returns: read back."""
  context = tiny_run.build(config(**CHANGES), run)
  with tiny_run.watching(rl, sft) as seen:
    study = salmon.RECIPE.train(context)
  return context, seen, study


@pytest.fixture(scope="module")
def loaded(run):
  return pit_jax.load(run, mesh=(1, 1, 1), batch_size=4)


def test_there_is_no_stage_of_a_gap_reward(run):
  results = json.loads((run / "report" / "results.json").read_text())
  planned = [stage.name for stage in salmon.stages(config(**CHANGES))]
  assert [*results["stages"]] == planned
  assert planned == ["sft", "reward", "salmon", "salmon_manners", "sft_improver", "improver"]
  assert [row["version"] for row in results["improved"]] == ["draft", *VERSIONS, *VERSIONS]


def test_an_improver_learns_what_the_writer_says_under_principles(given):
  context, stages, study = given
  fold = stages["sft_improver"][0][0]
  lines = (context.workdir / "rows" / "demonstrations.jsonl").open()
  texts = {row["prompt"]: row["response"] for row in map(json.loads, lines)}
  bare = {row.prompt for row in context.rows.fold("sft").rows}
  assert len(fold.rows) == context.config.salmon.instructed * len(bare)
  for row in fold.rows:
    question, _, shown = row.prompt.partition("\nPrinciples: ")
    assert question in bare and shown
    assert (row.chosen, row.rejected) == (texts[row.prompt], texts[question])
  assert fold.validation


@pytest.mark.parametrize("change", [{"salmon__writer": ""}, {"salmon__instructed": 0}])
def test_without_a_writer_under_principles_it_learns_from_the_labels(change, tmp_path):
  own = config(**CHANGES | {"salmon__others": ()} | change)
  planned = {stage.name: stage for stage in salmon.stages(own)}
  assert planned["sft_improver"].fold == own.reward.fold
  taught = {stage.name: stage for stage in salmon.stages(config(**CHANGES))}
  assert taught["sft_improver"].fold == own.sft.fold

  with tiny_run.watching(sft) as seen:
    salmon.RECIPE.train(tiny_run.build(own, tmp_path))
  fold = seen["sft_improver"][0][0]
  lines = (tmp_path / "rows" / "labels.jsonl").open()
  pairs = {frozenset((row["output_1"], row["output_2"])) for row in map(json.loads, lines)}
  assert {frozenset((row.chosen, row.rejected)) for row in fold.rows} <= pairs


def test_a_prompt_that_no_principle_fits_is_not_rewritten(given):
  """Else an improver would be taught to leave a draft as it is."""
  context, _, study = given
  none = dataclasses.replace(study.labelled.bank, principles=())
  fold = context.rows.fold("sft")
  answers = {part: [(row.prompt, "as it is") for row in getattr(fold, part)] for part in PARTS}
  written = dataclasses.replace(study.labelled.samples[0], parts=answers)
  made = labelling.rewritten(context, none, fold, written)
  assert not made.rows and not made.validation


def test_what_rl_maximises_is_how_much_better_a_version_is_than_its_reference(given):
  context, stages, study = given
  maximised = stages["improver"][0][1]
  (weight, signal) = maximised["gap"]
  assert weight == 1.0
  inference = context.models.inference
  facts = json.loads((context.workdir / "calibration" / "improver.json").read_text())
  asked = [json.loads(line) for line in (context.workdir / "rows" / "references.jsonl").open()]
  model, bank = study.rewards["reward"], study.labelled.bank
  rows = np.array([3, len(asked) + 1])  # of the first pass, and of the second
  texts = inference.words(inference.responses(TEXTS))
  told = np.asarray(signal(rows, None, inference.responses(TEXTS)))
  prompts = stages["improver"][0][0][:]
  whole = inference.words(types.Responses(tokens=prompts.tokens, mask=prompts.mask))
  for row, text, reward in zip(rows.tolist(), texts, told, strict=True):
    source = asked[row % len(asked)]
    # The list that the row shows, read off its prompt.
    shown = [
      one for name in salmon_names(bank) for one in bank.chosen(name)
      if one.sentence in whole[row]
    ]  # fmt: skip
    assert shown
    order = sorted(shown, key=lambda one: whole[row].index(one.sentence))
    versions = [ratio(context, model, source["prompt"], order, y)
                for y in (text, source["response"])]  # fmt: skip
    expected = facts["gain"] * (versions[0] - versions[1]) + facts["shift"]
    assert reward == pytest.approx(expected, rel=1e-3, abs=1e-3)


def salmon_names(bank):
  return [f"{sign}{one.name}" for one in bank.principles for sign in ("", "not:")]


@pytest.mark.parametrize("named", LISTS)
def test_gaps_are_differences_of_scores(loaded, given, named):
  prompts = [*given[0].rows.fold("rl").prompts[:2]]
  gaps = loaded.gap(prompts, TEXTS, OTHER, principles=named)
  scores = [loaded.score(prompts, texts, principles=named) for texts in (TEXTS, OTHER)]
  np.testing.assert_allclose(gaps, scores[0] - scores[1], atol=1e-4)
  back = loaded.gap(prompts, OTHER, TEXTS, principles=named)
  np.testing.assert_allclose(back, -gaps, atol=1e-6)
  assert not loaded.gap(prompts, TEXTS, TEXTS, principles=named).any()


@pytest.mark.parametrize("rule", ["both_orders", "draft_zero", "zero_point"])
def test_the_stop_rule_goes_by_the_list_that_is_shown(run, given, rule):
  found = pit_jax.load(run, mesh=(1, 1, 1), batch_size=4, stop_rule=rule)
  prompts = [*given[0].rows.fold("rl").prompts[:2]]
  for named in LISTS:
    for made, prompt in zip(
      found.improve(prompts, TEXTS, principles=named, rounds=1), prompts, strict=True
    ):
      (version,) = made.rounds
      once = found.gap([prompt], [version.text], [made.draft], principles=named)[0]
      # Twice where the draft's own zero is taken off a difference of both orders.
      assert version.gap == pytest.approx(once, abs=1e-4)
      assert made.text == (version.text if version.gap > 0 else made.draft)


def test_a_text_in_several_rows_is_read_once(given):
  asked = []

  class Counting(implicit.Reward):
    def rate(self, questions, shown, answers):
      asked.append((questions, shown, answers))
      return np.array([len(y) for y in answers], np.float32)

  rewarding = Counting(given[0].models.inference, {}, {})
  columns = (["a", "a", "b"], ["a+", "a+", "b+"])
  gaps = rewarding.gaps(*columns, ["xx", "y", "xx"], ["y", "xx", "xx"])
  assert gaps.tolist() == [1.0, -1.0, 0.0]
  assert asked == [(["a", "a", "b"], ["a+", "a+", "b+"], ["xx", "y", "xx"])]
  assert rewarding.gaps([], [], [], []).shape == (0,)


def test_both_models_are_written_for_other_libraries(run, tmp_path):
  convert.main(["export", f"--workdir={run}", f"--output={tmp_path}"])
  written = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
  assert written == ["implicit_reward", "improver", "policy", "reference"]
  for name in ("implicit_reward", "reference"):
    card = (tmp_path / name / "README.md").read_text()
    assert "log π(answer) − log π_ref(answer)" in card and "text-generation" in card
