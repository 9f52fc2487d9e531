"""Recipe `salmon`: what labels its rows, what its reward model is shown, what is done once."""

import dataclasses
import itertools
import json
from unittest import mock

import jax
import numpy as np
import pytest
import tiny_run
from salmon_run import OTHERS, POLICIES, config, made

from pit_jax.data import preferences, principles
from pit_jax.evaluate import suite
from pit_jax.feedback import named
from pit_jax.recipes import running, salmon
from pit_jax.recipes.salmon import banks, conditioned, measures
from pit_jax.stages import reward, rl
from pit_jax.tasks import synthetic


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A finished run, as small as it comes: read it."""
  workdir = tmp_path_factory.mktemp("salmon") / "run"
  with tiny_run.unrendered():
    running.run(config(), workdir)
  return workdir


@pytest.fixture(scope="module")
def results(run):
  return json.loads((run / "report" / "results.json").read_text())


@pytest.fixture(scope="module")
def given(run):
  """What each stage of the run was given, by its name, and what the recipe returns."""
  with tiny_run.watching(reward, rl) as seen:
    study = salmon.RECIPE.train(tiny_run.build(config(), run))  # read back
  return seen, study


def test_one_reward_model_makes_a_policy_for_every_list(results):
  assert [*results["stages"]] == ["sft", "reward", "reward_shuffled", "reward_plain", *POLICIES]
  compared = {(row["a"], row["b"]) for row in results["comparisons"]}
  own = {(name, "sft") for name in POLICIES} | {("salmon", name) for name in POLICIES[1:]}
  assert compared == own | {("salmon_resampled", "salmon")}
  assert {row["judge"] for row in results["comparisons"]} == {"gold"}
  assert results["headline"] == ["salmon", "sft"] and results["labellers"] == ["self"]
  assert results["about"]["salmon_manners"] == "RL under greeting,not:closing"
  assert "3 principles drawn for each response" in results["about"]["salmon_drawn"]


def test_rows_say_who_labelled_what_by_which_principles(run, given):
  rows = made(run, "labels")
  _, study = given
  first, second = (made(run, f"samples_{side}") for side in (1, 2))
  sampled = {row["prompt"]: {row["response"]} for row in first}
  for row in second:
    sampled[row["prompt"]].add(row["response"])
  for row in rows:
    assert {row["output_1"], row["output_2"]} == sampled[row["prompt"]]
    assert row["written_by"] == ["sft", "sft"] and row["labelled_by"] == "self"
    assert 1 <= len(row["principles"]) == len(row["scores"]) <= 5
  kept = [row for row in rows if row["preference"]]
  assert study.labelled.counts == {"kept": len(kept), "score 0": len(rows) - len(kept)}
  judged = made(run, "scores_tone")
  assert {row["principle"] for row in judged} == {"Nobody grumbles."}
  assert all(len(row["orders"]) == 2 and row["labelled_by"] == "self" for row in judged)


def test_reward_models_learn_from_the_same_rows_shown_with_without_and_others_principles(given):
  stages, study = given
  rows = [row for row in study.labelled.made.rows if row["preference"] and row["part"] == "rows"]
  folds = {name: stages[name][0][0].rows for name in study.rewards}
  bare = [(row["prompt"], row[f"output_{row['preference']}"]) for row in rows]
  assert [(row.prompt, row.chosen) for row in folds["reward_plain"]] == bare
  bank = study.labelled.bank
  shown = [bank.show(row["prompt"], bank.chosen(row["principles"])) for row in rows]
  assert [row.prompt for row in folds["reward"]] == shown
  begins = {}
  for name in ("reward", "reward_shuffled"):
    begins[name] = sorted(row.prompt.split("\n")[-1] for row in folds[name])
    assert [row.chosen for row in folds[name]] == [chosen for _, chosen in bare]
  assert begins["reward"] == begins["reward_shuffled"]
  assert [row.prompt for row in folds["reward_shuffled"]] != shown


def test_every_policy_begins_with_the_sampled_one_and_stays_near_it(given):
  stages, study = given
  for system in POLICIES:
    _, how, _ = stages[system]
    assert how["reference"] is study.sampled.params


def under(context, study, listed):
  bank = study.labelled.bank
  chosen = banks.shown(bank, listed)
  facts = {"gain": 2.0, "shift": 0.25}
  return conditioned.Conditioned(context, study.rewards["reward"], bank, chosen, facts)


@pytest.mark.parametrize("listed", ["closing", "not:closing,tone", ""])
def test_rl_is_rewarded_by_what_the_model_says_of_the_prompt_with_principles(run, given, listed):
  context = tiny_run.build(config(), run)
  inference = context.models.inference
  _, study = given
  questions = context.rows.fold("rl").prompts[:6]
  rows = np.array([4, 0, 2, 4])
  answers = [f"Hi Kim, it is {street}." for street in ("Oak", "Elm", "Ash", "Fig")]
  responses = inference.responses(answers)
  rewarding = under(context, study, listed)
  asked = []
  show = principles.Bank.show
  with mock.patch.object(principles.Bank, "show", lambda *of: asked.append(of[2]) or show(*of)):
    score = rewarding.signal(questions)
    scores = np.asarray(score(rows, None, responses))
    again = np.asarray(score(rows, None, responses))
  np.testing.assert_array_equal(scores, again)
  assert asked[:4] == asked[4:]
  if listed:
    assert asked[:4] == [rewarding.shown] * 4
  else:  # three each, drawn anew for another response to the same prompt
    assert {len(one) for one in asked} == {3} and asked[0] != asked[3]
  prompts = [
    rewarding.bank.show(questions[row], one) for row, one in zip(rows, asked, strict=False)
  ]
  alone = inference.rate(study.rewards["reward"].params, prompts, answers)
  np.testing.assert_allclose(scores, 2.0 * alone + 0.25, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", ["{response}\n{principles}", "{response}\n{prompt}\n{principles}"])
def test_rl_is_rewarded_in_the_order_of_the_form(run, given, form):
  """Longer than what is sampled, and as the reward model rates it in words."""
  context = tiny_run.build(config(), run)
  questions = context.rows.fold("rl").prompts[:3]
  bank = dataclasses.replace(given[1].labelled.bank, response=form)
  bank = conditioned.check_lengths(context, bank, questions)
  longest = context.models.inference.response_length
  assert bank.length > longest
  read_by = conditioned.reading(context, bank)
  rewarding = dataclasses.replace(
    under(read_by, given[1], "tone,not:closing"), bank=bank, facts={"gain": 2.0, "shift": 0.5}
  )
  answers = ["Hi Kim, it is Oak.", "Well, Elm gets it. I am too busy.", "so"]
  sampled = context.models.inference.responses(answers)
  scores = np.asarray(rewarding.signal(questions)(np.arange(3), None, sampled))
  params = given[1].rewards["reward"].params
  shown = bank.chosen("tone,not:closing")
  read = [bank.read(*row, shown) for row in zip(questions, answers, strict=True)]
  asked = [[column[i] for column in read] for i in (0, 1)]
  alone = read_by.models.inference.rate(params, *asked)
  np.testing.assert_allclose(scores, 2.0 * alone + 0.5, rtol=1e-4, atol=1e-4)
  cut = context.models.inference.rate(params, *asked)
  assert np.abs(cut - alone).max() > 1e-3  # the principles were seen whole


def test_a_list_has_deviation_1_on_samples_of_the_policy(run, given):
  facts = json.loads((run / "calibration" / "salmon_manners.json").read_text())
  context = tiny_run.build(config(), run)
  _, study = given
  rewarding = dataclasses.replace(under(context, study, OTHERS[0][1]), facts=facts)
  fold = preferences.distinct(context.rows.fold("reward").validation)
  questions = [row.prompt for row in fold]
  key = jax.random.fold_in(context.key("salmon_manners"), 1)
  answers = context.models.inference.answer(study.sampled.params, questions, key, 1.0)
  scores = facts["gain"] * rewarding.rate(questions, answers) + facts["shift"]
  np.testing.assert_allclose([scores.mean(), scores.std()], [0.0, 1.0], atol=1e-3)
  value = rewarding.value
  head = study.rewards["reward"].params["head"]
  np.testing.assert_allclose(value["head"], np.asarray(head) * facts["gain"])
  assert value["bias"] == np.float32(facts["shift"])


def test_the_report_has_principles_conflicts_policies_and_what_a_principle_does(run, results):
  assert {row["model"] for row in results["conflicts"]} == {
    "reward", "reward_shuffled", "reward_plain",
  }  # fmt: skip
  kinds = {(row["principle"], row["shown"]) for row in results["principles"]}
  assert len(kinds) == 10 and len(results["principles"]) == 30
  assert results["conditioning"]["told_by"] == "gold"
  assert [row["system"] for row in results["policies"]] == POLICIES
  told = {row["principle"]: row for row in results["steering"]}
  assert told["answer"]["difference"] is not None and told["closing"]["negated"] is not None
  # Lists that are drawn hold every principle now and then, and are on neither side.
  checks = {name: results["systems"][name]["checks"] for name in POLICIES}
  np.testing.assert_allclose(told["tone"]["with"], checks["salmon"]["tone"])
  np.testing.assert_allclose(told["tone"]["without"], checks["salmon_manners"]["tone"])
  np.testing.assert_allclose(told["closing"]["negated"], checks["salmon_manners"]["closing"])
  page = (run / "report" / "report.html").read_text()
  for title in ("Single principles", "Conflicts", "Policies of one reward model"):
    assert title in page


def test_reward_models_are_asked_by_one_principle_at_a_time(run, given):
  """Slowly: every prompt, every principle; letters are a writer's, since the models write none."""
  context = tiny_run.build(config(), run)
  study = given[1]
  subject = measures.of_run(context, study)
  writer = synthetic.writer_named("hasty", works=0.5, warm=0.5, calm=0.5)

  def letters(self, policy, stream, temperature=None):
    return [synthetic.letter_to(x, writer, stream) for x in self.questions]

  with mock.patch.object(suite.Suite, "answers", letters):
    found = measures.measure_rewards(subject)
  columns = [letters(subject.suite, None, stream) for stream in measures.PAIRS]
  pairs = [row for row in zip(subject.suite.questions, *columns, strict=True) if row[1] != row[2]]
  names = [one.name for one in study.labelled.bank.principles]
  rate = context.models.inference.rate
  params = study.rewards["reward"].params
  right = {}
  for x, a, b in pairs:
    passed = [synthetic.checks(x, letter) for letter in (a, b)]
    for name in names:
      for sign, listed in ((1, name), (-1, f"not:{name}")):
        truth = sign * (passed[0][name] - passed[1][name])
        shown = study.labelled.bank.show(x, study.labelled.bank.chosen(listed))
        better, worse = rate(params, [shown] * 2, [a, b])
        right.setdefault(listed, []).append((truth, np.sign(better - worse) == np.sign(truth)))

  for row in found["principles"]:
    if row["model"] == "reward":
      listed = row["principle"] if row["shown"] == "plain" else f"not:{row['principle']}"
      told = [is_right for truth, is_right in right[listed] if truth]
      assert row["n"] == len(told) and row["accuracy"] == (np.mean(told) if told else None)
  followed = [
    right[one][i][1] and right[other][i][1]
    for i in range(len(pairs))
    for one, other in itertools.combinations(names, 2)
    if right[one][i][0] * right[other][i][0] < 0
  ]
  told = {row["model"]: row for row in found["conflicts"]}
  assert told["reward"]["n"] == len(followed) > 0
  assert told["reward"]["both"] == pytest.approx(np.mean(followed))
  assert told["reward_plain"]["both"] == 0.0
  assert found["conditioning"] == {
    "told_by": "gold", "pairs": len(pairs), "rows": study.labelled.counts,
  }  # fmt: skip


def test_kl_is_the_mean_log_ratio_of_own_answers(run, results, given):
  context = tiny_run.build(config(), run)
  subject = measures.of_run(context, given[1])
  ask = context.models.inference.likelihoods
  questions, answers = subject.suite.questions, subject.systems["salmon"]
  nats = [
    ask(subject.models["salmon"], [x], [y])[0] - ask(subject.models["sft"], [x], [y])[0]
    for x, y in zip(questions, answers, strict=True)
  ]
  told = {row["system"]: row["kl"] for row in results["policies"]}
  np.testing.assert_allclose(told["salmon"], np.mean(nats), atol=1e-3)


def test_a_run_killed_among_principles_asks_for_none_twice(tmp_path):
  """The judge is asked for each principle once, over both processes."""
  asked = []
  whole = named.build

  def counting(context, part, name, **how):
    if part == "raters" and name == "self":
      asked.append(how["principle"].name)
      if asked.count("tone") == 1 and asked[-1] == "tone":
        raise KeyboardInterrupt
    return whole(context, part, name, **how)

  build = tiny_run.build(config(salmon__controls=False), tmp_path)
  with mock.patch.object(named, "build", counting):
    with pytest.raises(KeyboardInterrupt):
      salmon.RECIPE.train(build)
    before = (tmp_path / "rows" / "scores_working.jsonl").stat().st_mtime_ns
    trained = salmon.RECIPE.train(tiny_run.build(config(salmon__controls=False), tmp_path))
    assert asked == ["answer", "working", "greeting", "tone", "tone", "closing"]
    assert (tmp_path / "rows" / "scores_working.jsonl").stat().st_mtime_ns == before
    again = salmon.RECIPE.train(tiny_run.build(config(salmon__controls=False), tmp_path))
  assert len(asked) == 6 and [*trained.policies] == POLICIES
  one, other = (study.policies["salmon"].params for study in (trained, again))
  jax.tree.map(np.testing.assert_array_equal, one, other)


def test_other_principles_than_a_run_began_with_are_refused(run, tmp_path):
  context = tiny_run.build(config(), run)
  bank = banks.read(config())
  other = dataclasses.replace(bank, principles=bank.principles[:2])
  with mock.patch.object(banks, "read", lambda _: other), pytest.raises(ValueError) as error:
    banks.of_run(context)
  assert "holds other principles than the run began with" in str(error.value)


def test_prompts_without_room_for_principles_are_refused(run):
  context = tiny_run.build(config(), run)
  settings = dataclasses.replace(context.rows.settings, max_prompt_length=60)
  cut = tiny_run.changed(context, rows={"settings": settings})
  with pytest.raises(ValueError) as error:
    conditioned.check_lengths(cut, banks.read(config()), context.rows.fold("rl").prompts)
  assert "data.max_prompt_length=60 has no room for" in str(error.value)
