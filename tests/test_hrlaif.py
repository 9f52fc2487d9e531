"""Recipe `hrlaif`: whose labels each arm learns from, class by class, and what its page says."""

import json
from unittest import mock

import jax
import numpy as np
import pytest
import test_resume
import tiny_run

from pit_jax.data import preferences
from pit_jax.feedback import labels, writers
from pit_jax.recipes import hrlaif, running
from pit_jax.recipes.hrlaif import arms, labelling, page
from pit_jax.run import checks
from pit_jax.stages import feedback, reward, rewriting, rl, sft
from pit_jax.tasks import classes

HERE = __name__
SMALL = {"data__rows": 260, "evaluation__prompts": 24, "hrlaif__controls": ("noisy", "unwritten")}
ARMS = ("basic", "hybrid", "hybrid_noisy", "hybrid_unwritten")


def config(**changes):
  return tiny_run.config("hrlaif", **SMALL | changes)


def writing():
  """Has models write letters of the task where they are sampled for labels."""
  whole = writers.model

  def model(name, asking, params):
    def answer(asked, key, *_):
      seeds = jax.random.bits(key, (len(asked),)).tolist()
      prompts = [one.turns[0].content for one in asked]
      letters = map(classes.letter_to, prompts, [classes.MIXED] * len(asked), seeds)
      return writers.Written([[letter] for letter in letters])

    return writers.Writer(whole(name, asking, params).name, answer)

  return mock.patch.object(writers, "model", model)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A finished run, as small as it comes, whose samples are letters: read it."""
  workdir = tmp_path_factory.mktemp("hrlaif") / "run"
  with writing(), tiny_run.unrendered():
    running.run(config(), workdir)
  return workdir


@pytest.fixture(scope="module")
def results(run):
  return json.loads((run / "report" / "results.json").read_text())


@pytest.fixture(scope="module")
def given(run):
  """What each stage of the run was given, by its name, and what the recipe returns."""
  asked = mock.Mock(side_effect=AssertionError("asked again"))
  files = tiny_run.files(run / "rows")
  with (
    tiny_run.watching(sft, reward, rl) as seen,
    mock.patch.object(labels, "labels", asked), mock.patch.object(writers.Writer, "write", asked),
    mock.patch.object(labelling, "try_functions", lambda context: None),
  ):  # fmt: skip
    study = hrlaif.RECIPE.train(tiny_run.build(config(), run))  # read back
  assert tiny_run.files(run / "rows") == files
  return seen, study


def rows_of(workdir, name):
  return [json.loads(line) for line in (workdir / "rows" / f"{name}.jsonl").open()]


def labels_of(workdir, name):
  return json.loads((workdir / "rows" / f"{name}.json").read_text())


def test_every_arm_is_trained_compared_and_told(run, results):
  compared = {(row["a"], row["b"]) for row in results["comparisons"]}
  assert {(arm, "sft") for arm in ARMS} | {("hybrid", arm) for arm in ARMS if arm != "hybrid"} <= (
    compared
  )
  assert {("hybrid_noisy", "basic"), ("hybrid_unwritten", "basic")} <= compared
  names = ["sft", *(name for arm in ARMS for name in (f"{arm}_reward", arm))]
  assert [*results["stages"]] == names == [one.name for one in arms.stages(config())]
  assert results["headline"] == ["hybrid", "basic"]
  judges = {row["judge"] for row in results["comparisons"]}
  assert judges == {"gold", "acceptable", "brief_again"}
  assert {"brief", "calm", "by_class"} <= {*results["labellers"]}
  assert not judges & {*results["labellers"]}
  assert results["about"]["hybrid"] == (
    "after RL for the labels of by_class, and rewritings of the class rude"
  )
  text = (run / "report" / "report.html").read_text()
  assert "Preference and satisfaction" in text and "Labels by class" in text


def test_pairs_and_steps_are_as_many_in_every_arm(given, results):
  stages, study = given
  sizes = {
    arm: [len(getattr(study.labelled[arm].fold, part)) for part in feedback.PARTS] for arm in ARMS
  }
  assert len({tuple(size) for size in sizes.values()}) == 1 and min(sizes["basic"]) > 0
  for kind in ("_reward", ""):
    assert len({results["stages"][f"{arm}{kind}"]["steps"] for arm in ARMS}) == 1
  for arm in ARMS:
    (fold,), how, model = stages[f"{arm}_reward"]
    assert fold == study.labelled[arm].fold
    policy = study.policies["sft"].params
    assert how["start"] is policy and how["sampler"] is policy
    assert stages[arm][1]["reference"] is policy


def test_labels_are_of_two_samples_of_the_imitating_policy(run):
  samples = [{row["prompt"]: row["response"] for row in rows_of(run, f"samples_{number}")}
             for number in (1, 2)]  # fmt: skip
  assert {*samples[0]} == {*samples[1]}
  for row in labels_of(run, "basic_labels"):
    both = [one[row["instruction"]] for one in samples]
    assert [row["output_1"], row["output_2"]] == both
    assert (row["generator_1"], row["generator_2"]) == ("sft", "sft")
    assert row["annotator"] == "brief"
  imitated = {row["prompt"] for row in rows_of(run, "demonstrations")}
  assert imitated and not imitated & {*samples[0]}


def test_each_class_has_its_labeller(run, given):
  by_class = {}
  for row in labels_of(run, "hybrid_labels"):
    by_class.setdefault(classes.class_of(row["instruction"]), set()).add(row["annotator"])
  assert by_class == {"chain": {"verified", "brief"}, "note": {"brief"}}  # ties are of the latter
  study = given[1]
  for arm, rude in {"hybrid": "calm", "hybrid_unwritten": "brief", "basic": "brief"}.items():
    labelled = study.labelled[arm]
    rows = [*labelled.fold.rows, *labelled.fold.validation]
    whose = {
      who for row, who in zip(rows, labelled.raters, strict=True)
      if classes.class_of(row.prompt) == "rude"
    }  # fmt: skip
    assert whose == {rude}, arm


def test_what_verifies_better_is_preferred_by_hand(run):
  """Right answer and steps before a right answer before a wrong one; else the basic label."""
  basic = {row["instruction"]: row for row in labels_of(run, "basic_labels")}
  decided = 0
  for row in labels_of(run, "hybrid_labels"):
    prompt = row["instruction"]
    if classes.class_of(prompt) != "chain":
      assert row == basic[prompt] | {key: row[key] for key in ("annotator",)}
      continue
    worth = []
    for side in ("output_1", "output_2"):
      follows = classes.answer_follows(prompt, row[side])
      worth.append(follows * (1 + classes.calls_are_facts(prompt, row[side])))
    if worth[0] != worth[1]:
      decided += 1
      assert row["preference"] == (1 if worth[0] > worth[1] else 2)
      assert row["annotator"] == "verified"
    else:
      assert row["preference"] == basic[prompt]["preference"]
  assert decided > 3


def test_rewritings_are_of_harmful_answers_to_rude_askers_alone(run, given):
  made = rows_of(run, "rewritten")
  assert made and {classes.class_of(row["prompt"]) for row in made} == {"rude"}
  for row in made:
    is_harmful = not classes.is_calm(row["prompt"], row["response"])
    assert row["harmful"] == is_harmful == (row["rewritten"] is not None)
  mended = {(row["rewritten"], row["response"]) for row in made if row["harmful"]}
  labelled = given[1].labelled["hybrid"]
  rude = [row for row in (*labelled.fold.rows, *labelled.fold.validation)
          if classes.class_of(row.prompt) == "rude"]  # fmt: skip
  assert rude and {(row.chosen, row.rejected) for row in rude} <= mended
  assert {row.writers for row in rude} == {("mender", "sft")}


def test_the_share_of_right_labels_is_told_by_arm_and_class(results, given):
  told = {(row["system"], row["class"]): row for row in results["class_labels"]}
  assert {*told} == {(arm, name) for arm in ARMS for name in classes.SHARES}
  for (arm, name), row in told.items():
    labelled = given[1].labelled[arm]
    rows = [one for one in (*labelled.fold.rows, *labelled.fold.validation)
            if classes.class_of(one.prompt) == name]  # fmt: skip
    assert row["pairs"] == len(rows) == sum(row["by"].values())
    gaps = [classes.gold(one.prompt, one.chosen) - classes.gold(one.prompt, one.rejected)
            for one in rows]  # fmt: skip
    np.testing.assert_allclose(row["right"], np.mean([gap > 0 for gap in gaps if gap]))
  assert told["hybrid", "rude"]["right"] == 1.0
  assert told["hybrid", "chain"]["right"] > told["basic", "chain"]["right"]


def test_satisfaction_is_told_by_class_and_learnt_from_by_nobody(run, results):
  told = {(row["system"], row["class"]): row for row in results["classes"]}
  assert {system for system, _ in told} == {"sft", *ARMS}
  for system in ("sft", *ARMS):
    own = [told[system, name] for name in classes.SHARES]
    mean = sum(row["satisfied"] * row["prompts"] for row in own) / sum(
      row["prompts"] for row in own
    )
    np.testing.assert_allclose(mean, results["systems"][system]["score_acceptable"])
    for name, row in zip(classes.SHARES, own, strict=True):
      change = 100 * (row["satisfied"] - told["sft", name]["satisfied"])
      assert ("delta" in row) == (system != "sft")
      if system != "sft":  # of ones and zeros Δ is what the share gained
        np.testing.assert_allclose(row["delta"], change, atol=1e-9)
        assert row["n"] == row["prompts"] and row["ci95"][0] <= row["delta"] <= row["ci95"][1]
  asked = mock.Mock(side_effect=AssertionError("training asked what satisfies"))
  with mock.patch.object(classes, "acceptable", asked):
    hrlaif.RECIPE.train(tiny_run.build(config(), run))


def test_a_run_that_ends_in_the_middle_of_labelling_goes_on_to_the_same_models(run, tmp_path):
  ended = mock.Mock(side_effect=KeyboardInterrupt)
  with writing():
    with mock.patch.object(rewriting, "rewritten", ended), pytest.raises(KeyboardInterrupt):
      running.run(config(), tmp_path, stages_only=True)
    begun = tiny_run.files(tmp_path / "rows")
    assert "hybrid_labels.json" in begun and "rewritten.jsonl" not in begun
    running.run(config(), tmp_path, stages_only=True)
  files = tiny_run.files(run / "rows")
  assert tiny_run.files(tmp_path / "rows") == files and begun.items() <= files.items()
  states = (test_resume.final_states(path, tiny_run.STEPS) for path in (tmp_path, run))
  assert next(states) == next(states)


def test_pairs_that_are_cut_are_drawn_from_all_with_their_raters():
  rows = tuple(preferences.Preference(f"q{i}", "a", "b") for i in range(50))
  names = [f"r{i}" for i in range(50)]
  whole = labelling.Labelled(preferences.Fold(rows[:40], rows[40:]), (), names, {}, {})
  cut = labelling._cut(whole, (10, 4), 3)
  assert (len(cut.fold.rows), len(cut.fold.validation)) == (10, 4)
  kept = [row.prompt.replace("q", "r") for row in (*cut.fold.rows, *cut.fold.validation)]
  assert kept == list(cut.raters) and kept != names[:10] + names[40:44]
  assert labelling._cut(whole, (10, 4), 3) == cut != labelling._cut(whole, (10, 4), 4)


def broken(prompt, answer):
  raise LookupError("no such town")


def mute(turns):
  raise LookupError("no words")


@pytest.mark.parametrize(
  ("part", "name", "section", "said"),
  [
    ("raters", "steps", {"kind": "check", "function": f"{HERE}:broken"},
     "the verifier steps (test_hrlaif:broken) raised LookupError: no such town"),
    ("raters", "calm", {"kind": "check", "function": f"{HERE}:broken"},
     "the verifier calm (test_hrlaif:broken) raised LookupError: no such town"),
    ("writers", "mender", {"kind": "function", "function": f"{HERE}:mute"},
     "the writer mender (test_hrlaif:mute) raised LookupError: no words"),
  ],
)  # fmt: skip
def test_functions_that_raise_are_told_before_training(tmp_path, part, name, section, said):
  made = config().unlock()
  made.feedback[part][name] = section
  made.lock()
  trained = mock.Mock(side_effect=AssertionError("trained"))
  with mock.patch.object(sft, "run", trained), pytest.raises(ValueError) as error:
    hrlaif.RECIPE.train(tiny_run.build(made, tmp_path))
  assert str(error.value).startswith(said) and "Phone chain for" in str(error.value)


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"hrlaif__author": "who"}, "hrlaif.author names 'who'; use names of feedback.writers, which"),
    ({"hrlaif__rewriter": "who"}, "hrlaif.rewriter names 'who'; use names of feedback.writers"),
    ({"hrlaif__harm": "who"}, "hrlaif.harm names 'who'; use names of feedback.raters"),
    ({"hrlaif__hybrid": "checked"}, "hrlaif.hybrid names 'checked', which is of kind in_turn; use"),
    ({"hrlaif__controls": ("by_class",)}, "'by_class' labels for two arms of hrlaif"),
    ({"hrlaif__preference": "brief"}, "hrlaif.preference names 'brief'; use names of evaluation."),
    ({"hrlaif__preference": "brief", "evaluation__judges": ("brief", "acceptable")},
     "hrlaif.preference='brief' labels what is trained on; name a judge that does not"),
    ({"hrlaif__preference": "answer", "evaluation__judges": ("answer", "acceptable")},
     "hrlaif.preference='answer' labels what is trained on"),
    ({"hrlaif__satisfaction": "brief_again"}, "hrlaif.satisfaction='brief_again' only compares"),
    ({"rl__rewards": (("gap", 1.0),)}, "rl.rewards names 'gap'"),
    ({"reward__model": "somewhere"}, "this recipe learns its rewards from labels of its own"),
  ],
)  # fmt: skip
def test_what_cannot_be_is_refused(changes, said):
  with pytest.raises(ValueError) as error:
    checks.values(config(**changes), hrlaif.RECIPE)
  assert said in str(error.value)


def row(a, b, delta, ci95, judge, **more):
  counts = {"n": 1800, "win": 50 + delta / 2, "lose": 50 - delta / 2, "tie": 0.0}
  return {"a": a, "b": b, "judge": judge, "delta": delta, "ci95": ci95} | counts | more


def told(fall, **more):
  rows = [
    row("basic", "sft", 30.0, (25.0, 35.0), "brief_again"),
    row("sft", "basic", fall, (fall - 3, fall + 3), "acceptable"),
    row("hybrid", "sft", 20.0, (15.0, 25.0), "brief_again"),
    row("hybrid", "sft", 12.0, (8.0, 16.0), "acceptable"),
    row("hybrid", "basic", 24.0, (18.0, 30.0), "acceptable"),
    row("hybrid_random", "basic", 1.0, (-3.0, 4.0), "acceptable"),
  ]
  study = {"preference": "brief_again", "satisfaction": "acceptable"}
  results = {"comparisons": rows, "systems": {}, "config": {"hrlaif": study}}
  return page.said(results | more)


def test_claims_are_of_both_numbers_and_of_the_controls():
  found, remark = told(12.0)
  assert len(found) == 6 and all("for these models" in claim.outcome for claim in found)
  assert page.NOTHING_CURED not in remark


def test_a_class_that_fell_ill_alone_is_named():
  ill = row("basic", "sft", -12.0, [-18.0, -6.0], "acceptable") | {"system": "basic"}
  well = row("basic", "sft", 30.0, [25.0, 35.0], "acceptable") | {"system": "basic"}
  rows = [ill | {"class": "chain"}, well | {"class": "note"}]
  _, remark = told(0.0, classes=rows)
  assert remark.endswith(" By classes it fell: chain (Δ = −12.0%, 95% interval −18.0 … −6.0).")


@pytest.mark.parametrize("fall", [0.0, -12.0])
def test_without_a_disease_the_page_says_that_nothing_was_cured(fall):
  found, remark = told(fall)
  (disease,) = [claim for claim in found if page.DISEASE in claim.statement]
  assert disease.outcome not in ("holds", "for these models") and page.NOTHING_CURED in remark
