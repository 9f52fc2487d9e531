"""Recipe `rft`: whom a round's reward tells apart, near what RL stays, when rounds end."""

import dataclasses
import json
from unittest import mock

import numpy as np
import pytest
import tiny_run

from pit_jax.data import preferences
from pit_jax.recipes import rft, running
from pit_jax.recipes.irft import page as shared
from pit_jax.recipes.rft import page
from pit_jax.run import checks
from pit_jax.run import context as contexts
from pit_jax.stages import feedback, reward, rl, trained

SMALL = {"data__rows": 200, "evaluation__prompts": 12}
ROUNDS = ("rft_1", "rft_2")
CONTROLS = ("rft_shuffled_1", "rft_shuffled_2")
TOLD = (0.9, 0.8)  # how right the rewards of the rounds are


def config(**changes):
  return tiny_run.config("rft", **SMALL | changes)


def telling(*accuracies):
  """Has the rewards of the rounds be right on these shares of pairs, whatever they learnt."""
  whole = reward.run
  shares = iter(accuracies)

  def run(context, name, *columns, **how):
    model = whole(context, name, *columns, **how)
    facts = model.facts if "shuffled" in name else model.facts | {"accuracy": next(shares)}
    return dataclasses.replace(model, facts=facts)

  return mock.patch.object(reward, "run", run)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A finished run, as small as it comes, of all rounds: read it."""
  workdir = tmp_path_factory.mktemp("rft") / "run"
  with telling(*TOLD), tiny_run.unrendered():
    running.run(config(), workdir)
  return workdir


@pytest.fixture(scope="module")
def results(run):
  return json.loads((run / "report" / "results.json").read_text())


def made(workdir, name):
  return [json.loads(line) for line in (workdir / "rows" / f"{name}.jsonl").open()]


@pytest.fixture(scope="module")
def given(run):
  """What each stage of the run was given, by its name, and what the recipe returns."""
  with telling(*TOLD), tiny_run.watching(reward, rl) as seen:
    policies = rft.RECIPE.train(tiny_run.build(config(), run))  # read back
  return seen, policies


def test_every_arm_is_compared_with_what_it_is_a_control_of(run, results):
  imitation = {(a, b) for a in (*ROUNDS, *CONTROLS) for b in ("sft", "sft_longer")}
  own = {("rft_1", "rft_shuffled_1"), ("rft_2", "rft_shuffled_2"), ("rft_2", "rft_1")}
  others = {("sft_longer", "sft"), ("rft_1_resampled", "rft_1")}
  assert {(row["a"], row["b"]) for row in results["comparisons"]} == imitation | own | others
  first = ["rft_reward_1", "rft_1", "rft_reward_2", "rft_2"]
  control = ["rft_shuffled_reward_1", "rft_shuffled_1", "rft_shuffled_reward_2", "rft_shuffled_2"]
  assert [*results["stages"]] == ["sft", "sft_longer", *first, *control]
  assert results["headline"] == ["rft_1", "sft_longer"]
  assert {row["judge"] for row in results["comparisons"]} == {"gold", "works_first"}
  assert results["about"] == {
    "rft_1": "after one round of reward learning and RL",
    "rft_2": "after 2 rounds of reward learning and RL",
    "rft_shuffled_1": "after one round of reward learning and RL, roles at random",
    "rft_shuffled_2": "after 2 rounds of reward learning and RL, roles at random",
  }
  assert "after 2 rounds" in (run / "report" / "report.html").read_text()


@pytest.mark.parametrize("arm", ["rft", "rft_shuffled"])
def test_a_round_prefers_demonstrations_to_samples_of_the_policy_it_begins_with(run, given, arm):
  stages, trained_policies = given
  shown = {row["prompt"]: row["response"] for row in made(run, "demonstrations")}
  policies = [trained_policies["sft"], *(stages[f"{arm}_{number}"][2] for number in (1, 2))]
  for number in (1, 2):
    (pairs,), how, _ = stages[f"{arm}_reward_{number}"]
    start = policies[number - 1].params
    assert how["sampler"] is start and how["start"] is trained_policies["sft"].params
    samples = made(run, f"{arm}_reward_{number}_samples")
    sampled = {row["prompt"]: row["response"] for row in samples}
    rows = [*pairs.rows, *pairs.validation]
    sides = [(row.chosen, row.rejected) for row in rows]
    right = [(shown[row.prompt], sampled[row.prompt]) for row in rows]
    if arm == "rft":
      assert sides == right
    else:  # some turned round, and no other text
      assert sides != right and [{*side} for side in sides] == [{*side} for side in right]
    _, how, _ = stages[f"{arm}_{number}"]
    assert how["reference"] is start

  kept = [trained_policies[f"{arm}_{number}"].params for number in (1, 2)]
  assert all(one is other.params for one, other in zip(kept, policies[1:], strict=True))


def test_imitation_for_longer_takes_the_steps_of_the_policy(results):
  updates = sum(results["stages"][name]["steps"] - 1 for name in ("rft_1", "rft_2"))
  assert results["config"]["rl"]["value_warmup"] == 1
  assert results["stages"]["sft_longer"]["steps"] == updates * 4  # minibatches of an iteration


@pytest.mark.parametrize(
  ("accuracies", "made"),
  [((0.5,), 0), ((0.9, 0.55), 1), ((0.9, 0.95), 2), ((0.6, 0.9), 2)],
)
def test_rounds_end_where_samples_cannot_be_told_and_controls_have_as_many(accuracies, made):
  """One standard error of 60 pairs above ½ is .565."""
  held = tuple(preferences.Preference(f"q{i}", "a", "b") for i in range(60))
  asked = []

  def rewarding(_, name, *rest):
    asked.append(name)
    is_control = "shuffled" in name
    return mock.Mock(facts={"accuracy": 0.5 if is_control else accuracies[int(name[-1]) - 1]})

  fold = preferences.Fold((), held)
  with (
    mock.patch.object(rft, "_pairs", lambda context, *_: (fold, context)),
    mock.patch.object(rft, "_rewarding", rewarding),
    mock.patch.object(rft, "_reinforced", lambda _, name, *rest: trained.Trained({}, {})),
  ):
    context = mock.Mock(spec=contexts.Context, config=config())
    context.seed.return_value = 0
    answers = mock.Mock(spec=feedback.Completions)
    given = (answers, trained.Trained({}, {}))
    rounds = rft._rounds(context, rft.ARM, *given, 2)
    control = rft._rounds(context, rft.SHUFFLED, *given, len(rounds))
  assert [*rounds] == [*ROUNDS[:made]] and [*control] == [*CONTROLS[:made]]
  assert asked[: len(accuracies)] == [f"rft_reward_{n}" for n in range(1, len(accuracies) + 1)]


def test_a_run_whose_rounds_end_at_once_has_its_report_and_all_systems(tmp_path):
  """Seeds whose rounds end elsewhere are pooled with it."""
  with telling(0.5), tiny_run.unrendered():
    running.run(config(), tmp_path)
  found = json.loads((tmp_path / "report" / "results.json").read_text())
  assert [*found["stages"]] == ["sft", "sft_longer", "rft_reward_1"]
  assert {*ROUNDS, *CONTROLS} <= {*found["systems"]} and found["headline"] == [
    "rft_1",
    "sft_longer",
  ]
  said = {found["about"][name] for name in (*ROUNDS, *CONTROLS)}
  assert said == {f"as before: rounds had ended when round {n} was due" for n in (1, 2)}
  assert {row["system"]: row["rise"] for row in found["demonstrations"]}["rft_2"] == 0.0


def test_roles_are_drawn_by_a_fair_coin_that_falls_the_same_again():
  rows = tuple(preferences.Preference(f"q{i}", f"a{i}", f"b{i}") for i in range(400))
  fold = preferences.Fold(rows[:300], rows[300:])
  once = rft.shuffled(fold, 3)
  assert once == rft.shuffled(fold, 3) != rft.shuffled(fold, 4)
  for part, whole in ((once.rows, fold.rows), (once.validation, fold.validation)):
    turned = [one.chosen == other.rejected for one, other in zip(part, whole, strict=True)]
    assert abs(np.mean(turned) - 0.5) < 3 * 0.5 / np.sqrt(len(turned))
    assert all({one.chosen, one.rejected} == {other.chosen, other.rejected}
               for one, other in zip(part, whole, strict=True))  # fmt: skip


def test_how_likely_demonstrations_are_is_told_of_every_system(run, results, given):
  """By hand: one demonstration after the other, of the validation part alone."""
  context = tiny_run.build(config(), run)
  policies = given[1]
  held = {row.prompt for row in context.rows.fold("sft").validation}
  shown = [row for row in made(run, "demonstrations") if row["prompt"] in held]
  ask = context.models.inference.likelihoods
  nats = {
    system: [-ask(policies[system].params, [row["prompt"]], [row["response"]])[0] for row in shown]
    for system in ("rft_2", "sft")
  }
  told = {row["system"]: row for row in results["demonstrations"]}
  assert {*told} == {"sft", "sft_longer", *ROUNDS, *CONTROLS}
  for system, values in nats.items():
    np.testing.assert_allclose(told[system]["nll"], np.mean(values), rtol=1e-4)
  rises = np.subtract(nats["rft_2"], nats["sft"])
  low, high = told["rft_2"]["ci95"]
  np.testing.assert_allclose(told["rft_2"]["rise"], rises.mean(), atol=1e-3)
  error = rises.std(ddof=1) / np.sqrt(len(rises))
  np.testing.assert_allclose(high - low, 2 * 1.96 * error, rtol=1e-2)


def test_the_page_has_an_arm_a_row_and_both_chains(run, results):
  table = shared.table(results)
  assert [row[0] for row in table.rows] == ["rft_1", "sft", "sft_longer", "rft_2", *CONTROLS]
  assert {"answers right", "working first", "malformed", "NLL"} <= {*table.columns}
  columns = page.pipeline(results)
  assert [column.title for column in columns] == [
    "Imitation", "Round 1", "Round 2", "Held out",
  ]  # fmt: skip
  assert all(len(column.chains) == 2 for column in columns)
  text = (run / "report" / "report.html").read_text()
  assert "A reward learnt from demonstrations" in text and "Arms, and the demonstrations" in text


def test_a_round_that_ended_the_run_is_drawn_as_the_last():
  stage = {"steps": 3, "fold": "sft", "kind": "rl", "facts": {"validation accuracy": 0.75}}
  names = ("sft", "rft_reward_1", "rft_1", "rft_reward_2", "rft_shuffled_reward_1")
  results = {
    "stages": dict.fromkeys(names, stage), "seconds": {}, "comparisons": [],
    "config": {"rft": {"rounds": 3}},
  }  # fmt: skip
  results["comparisons"] = [
    row(f"{arm}_1", "sft", 1.0, (0.0, 2.0)) for arm in ("rft", "rft_shuffled")
  ]
  columns = page.pipeline(results)
  said = [[box.lines[0] for box in column.chains[0]] for column in columns]
  assert said == [["sft"], ["R_1", "rft_1"], ["R_2", "ended"], ["not begun"], ["rft_1"]]
  assert columns[1].chains[0][0].lines[2] == "right on 75.0%"
  assert columns[-1].chains[0][0].lines[1] == "compared with sft"


def row(a, b, delta, ci95, judge="gold", **more):
  counts = {"n": 1536, "win": 50 + delta / 2, "lose": 50 - delta / 2, "tie": 0.0}
  return {"a": a, "b": b, "judge": judge, "delta": delta, "ci95": ci95} | counts | more


@pytest.mark.parametrize(
  ("first", "random", "outcomes"),
  [
    ((30.0, (25.0, 35.0)), (0.0, (-3.0, 3.0)), ["for these models"] * 3),
    ((1.0, (-4.0, 6.0)), (20.0, (17.0, 23.0)), ["for these models", "not shown", "opposite"]),
  ],
)
def test_claims_are_of_both_judges_and_of_the_control(first, random, outcomes):
  rows = [
    row("rft_1", "sft_longer", 40.0, (33.0, 47.0)),  # of which a third is 11
    row("rft_1", "sft_longer", *first, judge=shared.WORKS_FIRST),
    row("rft_shuffled_1", "sft_longer", *random),
    row("rft_shuffled_1", "sft_longer", 90.0, (80.0, 100.0), judge=shared.WORKS_FIRST),
  ]
  found, remark = page.said({"comparisons": rows, "systems": {}, "recipe": "rft"})
  for claim, expected in zip(found, outcomes, strict=True):
    assert expected in claim.outcome, claim.sentence
  assert "corrected" in remark


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"demonstrations__expert": "who"}, "demonstrations.expert='who'; use a name of feedback.wri"),
    ({"reward__model": "somewhere"}, "this recipe learns its reward from demonstrations"),
    ({"data__folds": ("sft", "reward"), "reward__fold": "reward"},
     "reward.fold='reward': demonstrations are of sft.fold='sft'"),
    ({"rl__rewards": (("gap", 1.0),)}, "rl.rewards names 'gap'"),
  ],
)  # fmt: skip
def test_what_cannot_be_is_refused(changes, said):
  with pytest.raises(ValueError) as error:
    checks.values(config(**changes), rft.RECIPE)
  assert said in str(error.value)
