"""Recipe `cot`: what each arm learns from, whose rationales are kept, how systems are asked."""

import json
import re
from unittest import mock

import jax
import numpy as np
import pytest
import test_resume
import tiny_run

from pit_jax.data import conversations, cutting, preferences
from pit_jax.feedback import writers
from pit_jax.recipes import cot, running
from pit_jax.recipes.cot import arms, measures, page, rationales
from pit_jax.rollout import inference
from pit_jax.run import context as contexts
from pit_jax.stages import dpo, reward, sft, trained
from pit_jax.tasks import chains

SMALL = {
  "data__rows": 220, "data__max_prompt_length": 72, "evaluation__prompts": 24,
  "cot__candidates": 3, "model__base": "none", "feedback__writers__teacher__wrong": 0.5,
}  # fmt: skip
OPTIMISED = ("dpo", "dpo_cut", "dpo_cos", "dpo_anchored", "dpo_random")
TRAINED = ("sft_short", "sft_steps", "sft_both", *OPTIMISED, "rejection")


def config(**changes):
  return tiny_run.config("cot", **SMALL | changes)


def reasoning():
  """Has models write rationales of which half stray, where they are sampled for pairs."""
  whole = writers.model

  def model(name, asking, params):
    def answer(asked, key, temperature, samples, top_p):
      seeds = jax.random.bits(key, (len(asked), samples)).tolist()
      prompts = [conversations.said(one.prompt) for one in asked]
      return writers.Written([
        [chains.rationale_to(prompt, 0.5, seed) for seed in own]
        for prompt, own in zip(prompts, seeds, strict=True)
      ])  # fmt: skip

    return writers.Writer(whole(name, asking, params).name, answer)

  return mock.patch.object(writers, "model", model)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A finished run, as small as it comes, whose samples are rationales: read it."""
  workdir = tmp_path_factory.mktemp("cot") / "run"
  with reasoning(), tiny_run.unrendered():
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
    tiny_run.watching(sft, dpo, reward) as seen,
    mock.patch.object(writers.Writer, "write", asked),
    mock.patch.object(inference.Inference, "logprobs", asked),
  ):
    study = cot.RECIPE.train(tiny_run.build(config(), run))  # read back
  assert tiny_run.files(run / "rows") == files
  return seen, study


def made(workdir, name):
  return [json.loads(line) for line in (workdir / "rows" / f"{name}.jsonl").open()]


def rows_of(fold):
  return [*fold.rows, *fold.validation]


def texts(fold):
  return [(row.prompt, row.chosen) for row in rows_of(fold)]


def test_every_arm_is_trained_asked_in_both_ways_and_compared(run, results):
  assert [*results["stages"]] == [*TRAINED, "rerank_reward"]
  assert {one.name for one in arms.stages(config())} == {*results["stages"]}
  systems = {*TRAINED, "base"}
  asked = systems | {f"{name}_direct" for name in systems} | {"dpo_resampled"}
  assert asked <= {*results["systems"]} and asked - {"dpo_resampled"} == {*results["about"]}
  pairs = {(row["a"], row["b"]) for row in results["comparisons"]}
  assert {("dpo", "sft_both"), ("dpo", "rejection"), ("sft_short", "base"),
          ("sft_short_direct", "base_direct"),
          ("dpo_direct", "sft_both_direct")} <= pairs  # fmt: skip
  assert results["headline"] == ["dpo", "sft_both"]
  judges = {row["judge"] for row in results["comparisons"]}
  assert judges == {"gold", "right", "sound"}
  assert "In short" not in str(results["answers"])  # prompts are shown as they were asked


def test_prompts_ends_tell_what_is_imitated(run, given):
  stages, _ = given
  short, steps, both = (
    texts(stages[name][0][0]) for name in ("sft_short", "sft_steps", "sft_both")
  )
  assert {*both} == {*short, *steps} and len(both) == len(short) + len(steps)
  assert all(re.fullmatch(r".* In short:", x) and re.fullmatch(r"\w+\.", y) for x, y in short)
  assert all(x.endswith(" Step by step:") and y.startswith("The calls:") for x, y in steps)
  assert all(chains.is_right(x, y) for x, y in both)
  assert not any("call 6?" in x for x, _ in both)


def test_the_teacher_is_shown_the_answer_and_kept_where_it_agrees(run, results, given):
  rationale = made(run, "rationales")
  answers = {row["prompt"]: row["response"] for row in made(run, "short_answers")}
  for row in rationale:
    form = r"(.*\?) The answer is (\w+\.) Step by step:"
    question, answer = re.fullmatch(form, row["prompt"]).groups()
    assert answers[question] == answer
  right = [row for row in rationale if chains.is_right(row["prompt"], row["response"])]
  told = {row["of"]: row for row in results["rationales"]}["teacher"]
  assert 0 < told["wrong"] == len(rationale) - len(right) and told["kept"] == len(right)
  assert told["asked"] == len(rationale) and told["failed"] == told["unknown"] == 0
  shown = {y for _, y in texts(given[0]["sft_steps"][0][0])}
  assert shown == {row["response"] for row in right}
  sound = [chains.checks(row["prompt"], row["response"])["working"] for row in right]
  np.testing.assert_allclose(told["sound"], np.mean(sound))


def test_right_rationales_are_preferred_to_wrong_ones_of_their_prompt(run, results, given):
  """By hand: the i-th right one over the i-th wrong one, of different texts, at most two pairs."""
  pairs = {}
  outcomes = []
  for row in made(run, "samples"):
    sides = {1: [], 0: []}
    for text, is_right in zip(row["samples"], row["right"], strict=True):
      assert is_right == chains.is_right(row["prompt"], text)
      if text not in sides[is_right]:
        sides[is_right].append(text)
    outcomes.append("both" if all(sides.values()) else "right" if sides[1] else "wrong")
    own = list(zip(sides[1], sides[0], strict=False))[:2]
    if own:
      pairs[f"{row['prompt']} Step by step:"] = own
  stages, study = given
  (fold,), how, _ = stages["dpo"]
  found = {}
  for row in rows_of(fold):
    found.setdefault(row.prompt, []).append((row.chosen, row.rejected))
  assert found == pairs and max(map(len, pairs.values())) == 2
  both = study.policies["sft_both"].params
  assert how["start"] is both and how["reference"] is both
  told = {row["of"]: row for row in results["rationales"]}["sft_both"]
  assert told == {"of": "sft_both", "prompts": len(outcomes), "unknown": 0,
                  "pairs": sum(map(len, pairs.values()))} | {
                    name: outcomes.count(name) for name in ("both", "right", "wrong")
                  }  # fmt: skip
  assert not any("call 6?" in prompt for prompt in pairs)


def test_arms_of_dpo_differ_in_what_they_say(given):
  stages, _ = given
  whole = rows_of(stages["dpo"][0][0])
  cut = rows_of(stages["dpo_cut"][0][0])
  shortened = cutting.pairs(stages["dpo"][0][0], 0.5, 4)
  assert cut == rows_of(shortened) and max(len(row.chosen.split()) for row in cut) < 9
  random = rows_of(stages["dpo_random"][0][0])
  turned = [one.chosen == other.rejected for one, other in zip(random, whole, strict=True)]
  assert 0.2 < np.mean(turned) < 0.8
  weights = {name: stages[name][1]["job"].token_weights for name in OPTIMISED}
  assert weights == {name: "cos" if name == "dpo_cos" else "all" for name in OPTIMISED}
  anchors = {name: stages[name][1]["job"].sft_coefficient for name in OPTIMISED}
  assert anchors == {name: 1.0 if name == "dpo_anchored" else 0.0 for name in OPTIMISED}
  assert rows_of(stages["dpo_cos"][0][0]) == rows_of(stages["dpo_anchored"][0][0]) == whole


def test_rejection_imitates_the_right_ones_of_the_same_pairs_for_as_long(given):
  stages, study = given
  (fold,), how, result = stages["rejection"]
  assert rows_of(fold) == rows_of(stages["dpo"][0][0])
  assert how["start"] is study.policies["sft_both"].params
  job = how["job"]
  wanted = config().dpo
  assert (job.steps, job.batch_size, job.learning_rate) == (
    wanted.steps, wanted.batch_size, wanted.learning_rate
  )  # fmt: skip
  assert result.facts["steps"] == stages["dpo"][2].facts["steps"]
  for epochs, wanted in ((1.0, 7), (2.5, 17)):
    made_config = config(dpo__steps=0, dpo__epochs=epochs, dpo__batch_size=15)
    fold = preferences.Fold((preferences.Preference("x", "a", "b"),) * 100)
    context = mock.Mock(spec=contexts.Context, config=made_config)
    kept = trained.Trained({}, {})
    with mock.patch.object(sft, "run", return_value=kept) as ran:
      cot._rejecting(context, fold, kept)
    assert ran.call_args.kwargs["job"].steps == wanted


def test_shares_are_told_by_way_of_asking_and_kind_of_prompt(run, results, given):
  context = tiny_run.build(config(), run)
  subject = cot.of_run(context, given[1])
  questions = subject.suite.questions
  rows = {(row["system"], row["mode"], row["prompts"]): row for row in results["modes"]}
  assert {key[2] for key in rows} == {"seen", "unseen"}
  for name, mode, end in (("dpo", "steps", "Step by step:"), ("rejection", "direct", "In short:")):
    system = name if mode == "steps" else f"{name}_direct"
    for part in ("seen", "unseen"):
      places = [i for i, x in enumerate(questions) if ("call 6?" in x) == (part == "unseen")]
      row = rows[name, mode, part]
      own = [chains.is_right(questions[i], subject.systems[system][i]) for i in places]
      assert row["count"] == len(places)
      np.testing.assert_allclose(row["right"], np.mean(own))
    asked = [f"{x} {end}" for x in questions]
    greedy = context.models.inference.answer(subject.models[name], asked, jax.random.key(0), 0.0)
    assert measures.answers(subject, name, end, 5, 0.0) == greedy


def test_rerankers_choose_among_the_same_candidates(run, results, given):
  """By hand, of what the models say of each candidate alone."""
  context = tiny_run.build(config(), run)
  study = given[1]
  subject = cot.of_run(context, study)
  with reasoning():
    told = {row["chooser"]: row for row in measures.rerankers(subject)["rerankers"]}
    both = study.policies["sft_both"].params
    drawn = rationales.drawn(context, both, "candidates", subject.suite.questions, 3)
  asking = context.models.inference
  chosen = []
  for prompt, several in zip(subject.suite.questions, drawn, strict=True):
    ended = f"{prompt} Step by step:"
    scores = [
      asking.likelihoods(study.policies["dpo"].params, [ended], [text])[0]
      - asking.likelihoods(both, [ended], [text])[0]
      for text in several
    ]
    chosen.append(chains.is_right(prompt, several[int(np.argmax(scores))]))
  np.testing.assert_allclose(told["implicit"]["right"], np.mean(chosen))
  rights = [[chains.is_right(x, text) for text in several]
            for x, several in zip(subject.suite.questions, drawn, strict=True)]  # fmt: skip
  np.testing.assert_allclose(told["one"]["right"], np.mean([row[0] for row in rights]))
  np.testing.assert_allclose(told["any"]["right"], np.mean([any(row) for row in rights]))
  assert told["one"]["right"] < told["any"]["right"] <= 1
  assert {"majority", "R_P", "likelihood", "implicit_random"} < {*told}
  assert 0 <= told["R_P"]["ordered"] <= 1 and told["majority"]["delta"] == 0.0


def test_log_ratios_are_of_whole_rationales(run, results, given):
  """Also of the arm that learnt from some of their tokens: one text after the other."""
  context = tiny_run.build(config(), run)
  _, study = given
  held = study.found.fold.validation
  told = {row["system"]: row for row in results["log_ratios"]}
  assert {*told} == {*OPTIMISED, "rejection"}
  asking = context.models.inference
  shown = context.rows.settings.formats["policy"].conversations([row.prompt for row in held])
  prompts = cot.measures.encode.prompts(shown, context.rows.settings)[:]
  for side, texts_of in (
    ("right", [r.chosen for r in held]),
    ("wrong", [r.rejected for r in held]),
  ):
    responses = asking.responses(texts_of)
    sums = [asking.logprobs(study.policies[name].params, prompts, responses).sum(axis=1)
            for name in ("dpo_cos", "sft_both")]  # fmt: skip
    np.testing.assert_allclose(told["dpo_cos"][side], np.mean(sums[0] - sums[1]), atol=1e-3)


@pytest.mark.parametrize(
  ("module", "function"), [(rationales, "_filtered"), (cot, "_preferring"), (cot, "_rejecting")]
)
def test_a_run_that_ends_between_rows_and_stages_goes_on_to_the_same(
  run, tmp_path, module, function
):
  ended = mock.Mock(side_effect=KeyboardInterrupt)
  with reasoning():
    with mock.patch.object(module, function, ended), pytest.raises(KeyboardInterrupt):
      running.run(config(), tmp_path, stages_only=True)
    begun = tiny_run.files(tmp_path / "rows")
    running.run(config(), tmp_path, stages_only=True)
  files = tiny_run.files(run / "rows")
  assert begun and tiny_run.files(tmp_path / "rows") == files and begun.items() <= files.items()
  states = (test_resume.final_states(path, tiny_run.STEPS) for path in (tmp_path, run))
  assert next(states) == next(states)


def test_the_page_has_its_tables_and_both_chains(run, results):
  listed = [line[0] for line in page.modes(results).rows]
  assert listed == ["dpo", "base", *(name for name in TRAINED if name != "dpo")]
  columns = page.pipeline(results)
  assert [len(column.chains) for column in columns] == [2, 2, 2]
  text = (run / "report" / "report.html").read_text()
  for said in ("Rationales and short answers", "Reranking", "What became likelier"):
    assert said in text
