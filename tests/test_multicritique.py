"""Recipe `multicritique`: what each critic learns, what is preferred and kept, a stop's cost."""

import dataclasses
import json
from unittest import mock

import numpy as np
import pytest
import tiny_run

from pit_jax.data import units
from pit_jax.feedback import named, unit_writers, writers
from pit_jax.recipes import multicritique, running
from pit_jax.recipes.multicritique import arms, page, pairing
from pit_jax.run import made_rows
from pit_jax.stages import criticism, feedback, reward, rl, sft
from pit_jax.tasks import faults, synthetic

SMALL = {
  "data__rows": 420, "data__max_response_length": 80, "data__length_buckets": False,
  "data__fold_sizes": (1.0, 1.0, 1.0, 1.5, 0.6), "evaluation__prompts": 12,
  "tuning__steps": 3, "tuning__batch_size": 8, "critic_reward__steps": 3,
  "critic_reward__batch_size": 4, "multicritique__critics": ("first", "second", "third"),
  "revision__samples": 2,
}  # fmt: skip
FEW = {"multicritique__reinforced": False, "multicritique__controls": False}
CRITICS = ("first", "second", "third")
TAUGHT = ["critic_merged", "critic_union", *(f"critic_{name}" for name in CRITICS)]
ASKED = []  # of the run: who was asked in one pass, and for how many files of rows or critics
NOTHING_MADE = made_rows.MadeRows("rows/none", [], "hash")
RL = [f"critic_rl_{name}" for name in ("marv", "all", "random")]


def config(**changes):
  return tiny_run.config("multicritique", **SMALL | changes)


def telling():
  """Has drafts be letters, and models criticise them: those that learnt for three steps cannot."""
  whole = writers.model

  def model(name, asking, params):
    if name == arms.DRAFTS:
      return writers.grammar(name, synthetic.writer_named("hasty", first=0.2), seed=5)
    return whole(name, asking, params)

  def of_model(context, name, params, c):
    return unit_writers.finder(name, faults.Finder(), units.form_of(context.config.units), 7)

  return mock.patch.multiple(writers, model=model), mock.patch.object(
    criticism, "of_model", of_model
  )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A finished run, as small as it comes: read it."""
  workdir = tmp_path_factory.mktemp("multicritique") / "run"
  first, second = telling()
  whole = writers.Writer.write_all

  def watched(writer, requests):
    ASKED.append((writer.name, len(requests)))
    return whole(writer, requests)

  watching = mock.patch.object(writers.Writer, "write_all", watched)
  with first, second, watching, tiny_run.unrendered():
    running.run(config(), workdir)
  return workdir


@pytest.fixture(scope="module")
def results(run):
  return json.loads((run / "report" / "results.json").read_text())


@pytest.fixture(scope="module")
def given(run):
  """What the stages of pairs and of RL were given, by name, and what the recipe returns."""
  first, second = telling()
  with first, second, tiny_run.watching(reward, rl) as seen:
    study = multicritique.RECIPE.train(tiny_run.build(config(), run))  # read back
  return seen, study


def made(workdir, name):
  return [json.loads(line) for line in (workdir / "rows" / f"{name}.jsonl").open()]


def form():
  return units.form_of(config().units)


def test_every_arm_is_trained_and_compared(results):
  stages = ["sft", "reward", "reward_random", *TAUGHT]
  for name in RL:
    stages += [f"{name}_reward", name]
  assert [*results["stages"]] == stages
  assert results["headline"] == ["revised_merged", "revised_union"]
  revised = {name.replace("critic", "revised", 1) for name in (*TAUGHT, *RL)}
  assert {*results["systems"]} >= revised | {"sft"}
  pairs = {(row["a"], row["b"]) for row in results["comparisons"]}
  assert pairs == {
    *(("revised_merged", name.replace("critic", "revised")) for name in TAUGHT[1:]),
    ("revised_merged", "sft"),
    ("revised_rl_marv", "revised_rl_all"), ("revised_rl_marv", "revised_rl_random"),
    ("revised_rl_marv", "revised_merged"), ("revised_rl_all", "revised_merged"),
    ("sft_resampled", "sft"),
  }  # fmt: skip


def test_who_teaches_is_asked_about_the_drafts_of_both_folds_at_once(run):
  c = config().multicritique
  for name in (*CRITICS, c.meta):
    assert [count for who, count in ASKED if who == name] == [2]
  # Of the pairs and of those with others' critiques; at the end of what each critic says.
  first, *others = c.revisers
  assert [count for who, count in ASKED if who == first] == [2, len(TAUGHT) + len(RL)]
  assert all([count for who, count in ASKED if who == name] == [2] for name in others)


def test_without_controls_and_rl_few_stages_are_left():
  few = config(**FEW)
  assert [stage.name for stage in arms.stages(few)] == [
    "sft",
    "reward",
    "critic_merged",
    "critic_union",
  ]
  assert arms.filters(few) == ["all", "marv", "random"]
  first = arms.stages(config(multicritique__author="", **FEW))[0]
  assert first.name == "reward"


def test_a_critic_learns_the_units_of_its_source(run, given):
  _, study = given
  critics = {name: made(run, f"tuning_critiques_of_{name}") for name in CRITICS}
  grades = {(row["prompt"], row["draft"], row["unit"]): row["grade"]
            for row in made(run, "tuning_grades")}  # fmt: skip
  arms_by_name = {arm.name: arm for arm in arms.taught(config())}
  learnt = {
    name: multicritique.lessons(arm, study.taught, form(), CRITICS)
    for name, arm in arms_by_name.items()
  }
  texts = {
    name: {(one.prompt, one.texts[0]): said for part in parts.values() for one, said in part}
    for name, parts in learnt.items()
  }
  assert all(len(one) == len(critics["first"]) > 50 for one in texts.values())
  for rows in zip(*critics.values(), strict=True):
    key = (rows[0]["prompt"], rows[0]["draft"])
    assert {(row["prompt"], row["draft"]) for row in rows} == {key}
    named_by_all, accepted = set(), set()
    for name, row in zip(CRITICS, rows, strict=True):
      assert texts[name][key] == row["critique"]
      for unit in form().read(row["critique"]).units:
        named_by_all.add(unit.place)
        if grades[(*key, form().line(unit))] == "Quality: 7":
          accepted.add(unit.place)
    for source, places in (("union", named_by_all), ("merged", accepted)):
      assert {unit.place for unit in form().read(texts[source][key]).units} == places


def test_the_preferred_critique_is_worth_more_by_severity(run, given):
  _, study = given
  fold = study.paired.fold
  critics = {name: made(run, f"preference_critiques_of_{name}") for name in CRITICS}
  grades = {(row["prompt"], row["draft"], row["unit"]): row["grade"]
            for row in made(run, "preference_grades")}  # fmt: skip
  by_prompt = {}
  for rows in zip(*critics.values(), strict=True):
    by_prompt[rows[0]["prompt"]] = rows
  assert len(fold.rows) > 20 and fold.validation
  for pair in (*fold.rows, *fold.validation):
    rows = by_prompt[pair.prompt]
    assert pair.response == rows[0]["draft"]
    severities = {}
    for row in rows:
      for unit in form().read(row["critique"]).units:
        if grades[row["prompt"], row["draft"], form().line(unit)] == "Quality: 7":
          severities.setdefault(unit.place, []).append(unit.severity)
    total = {place: round(sum(said) / len(said)) for place, said in severities.items()}

    def worth(text, pair=pair, total=total):
      found = 0
      for unit in form().read(text).units:
        accepted = grades[pair.prompt, pair.response, form().line(unit)] == "Quality: 7"
        found += total[unit.place] if accepted else -unit.severity
      return found

    assert pair.chosen in {row["critique"] for row in rows} >= {pair.rejected}
    assert worth(pair.chosen) > worth(pair.rejected)


def test_marv_keeps_the_pairs_whose_chosen_critique_makes_revisions_score_higher(run, given):
  _, study = given
  context = tiny_run.build(config(), run)
  rating = reward.rating(context, study.scoring)
  rows = made(run, "revisions")
  expected = []
  for row in rows:
    means = []
    for side in ("chosen", "rejected"):
      texts = [text for own in row["revisions"][side] for text in own]
      assert len(row["revisions"][side]) == 2 and len(texts) == 4
      means.append(np.mean(rating([row["prompt"]] * 4, texts)))
    expected.append(means[0] - means[1])
  kept = np.concatenate([study.paired.kept["marv"][part] for part in feedback.PARTS])
  sure = np.abs(expected) > 1e-4
  assert sure.mean() > 0.5
  np.testing.assert_array_equal(kept[sure], (np.array(expected) > 0)[sure])


def test_filters_differ_in_what_they_keep_and_rl_learns_from_each(given, results):
  seen, study = given
  kept = study.paired.kept
  assert [*kept] == ["all", "marv", "random", "marv_random_reward", "marv_shuffled"]
  for part in feedback.PARTS:
    assert kept["random"][part].sum() == kept["marv"][part].sum() < len(kept["all"][part])
  start = study.critics["critic_merged"].params
  for name in ("marv", "all", "random"):
    columns, how, _ = seen[f"critic_rl_{name}_reward"]
    rows = [row for row, one in zip(study.paired.fold.rows, kept[name]["rows"], strict=True) if one]
    assert [*columns[0].rows] == rows and how["start"] is start
    assert how["job"].focal == 2.0
    (asked,) = how["shown"](rows[:1])
    assert (asked.prompt, asked.texts) == (rows[0].prompt, (rows[0].response,))
    assert seen[f"critic_rl_{name}"][1]["reference"] is start
  shares = {row["filter"]: row for row in results["critique_pairs"]}
  assert shares["marv"]["pairs"] == sum(mask.sum() for mask in kept["marv"].values())


def test_right_labels_are_counted_by_hand(run, given, results):
  _, study = given
  rows = {row["filter"]: row for row in results["critique_pairs"]}
  assert {*rows} == {*study.paired.kept}
  for name, row in rows.items():
    right = differ = 0
    total = 0
    for part in feedback.PARTS:
      masked = zip(getattr(study.paired.fold, part), study.paired.kept[name][part], strict=True)
      for pair in (pair for pair, one in masked if one):
        wrong = {n for n, ok in synthetic.checks(pair.prompt, pair.response).items() if not ok}
        f1 = []
        for text in (pair.chosen, pair.rejected):
          said = {unit.place for unit in form().read(text).units}
          f1.append(2 * len(said & wrong) / (len(said) + len(wrong)) if said or wrong else 1.0)
        total += 1
        differ += f1[0] != f1[1]
        right += f1[0] > f1[1]
    assert row["accuracy"] == pytest.approx(right / differ)
    assert row["alike"] == pytest.approx(1 - differ / total)


def test_critics_are_told_with_f1_by_hand(run, results):
  rows = {row["system"]: row for row in results["criticism"]}
  teachers = [f"taught_{name}" for name in (*CRITICS, "union", "merged")]
  assert [*rows] == [*teachers, *TAUGHT, *RL]
  hits = said = failed = 0
  for row in made(run, "tuning_critiques_of_second"):
    places = {unit.place for unit in form().read(row["critique"]).units}
    wrong = {n for n, ok in synthetic.checks(row["prompt"], row["draft"]).items() if not ok}
    hits, said, failed = hits + len(places & wrong), said + len(places), failed + len(wrong)
  own = rows["taught_second"]
  assert own["precision"] == pytest.approx(hits / said)
  assert own["recall"] == pytest.approx(hits / failed)
  assert own["f1"] == pytest.approx(2 * hits / (said + failed))
  assert own["parts"]["working"] == 0 and own["parts"]["answer"] > 0.5
  assert rows["taught_merged"]["f1"] > max(rows[f"taught_{name}"]["f1"] for name in CRITICS)
  assert rows["taught_merged"]["precision"] > rows["taught_union"]["precision"]


def test_shuffled_critiques_are_those_of_others():
  pairs = [pairing.revision.Pair(str(i), f"a{i}", f"b{i}", (f"d{i}",)) for i in range(40)]
  turned = pairing.shuffled(pairs, 0)
  assert [(one.prompt, one.shown) for one in turned] == [(one.prompt, one.shown) for one in pairs]
  assert all(one.chosen[1:] == one.rejected[1:] != one.prompt for one in turned)
  assert {one.chosen for one in turned} == {one.chosen for one in pairs}


def test_a_run_that_was_stopped_asks_nobody_twice(tmp_path):
  """Critics, meta-critic and revisers are asked once over both processes."""
  asked = []
  whole = named.build

  def counting(context, part, name, **how):
    writer = whole(context, part, name, **how)

    def answer(chats, *rest):
      asked.extend((name, one.prompt, one.texts) for one in chats)
      return writer.answer(chats, *rest)

    return dataclasses.replace(writer, answer=answer)

  few = {**FEW, "multicritique__reinforced": True}
  first, second = telling()
  stopping = mock.patch.object(rl, "run", side_effect=KeyboardInterrupt)
  with first, second, mock.patch.object(named, "build", counting):
    with stopping, pytest.raises(KeyboardInterrupt):
      multicritique.RECIPE.train(tiny_run.build(config(**few), tmp_path))
    before = tiny_run.files(tmp_path / "rows")
    once = list(asked)
    with mock.patch.object(sft, "learn", wraps=sft.learn) as learning:
      study = multicritique.RECIPE.train(tiny_run.build(config(**few), tmp_path))
  assert asked == once and len(once) == len({*once}) and learning.call_count == 2
  after = tiny_run.files(tmp_path / "rows")
  assert {name: after[name] for name in before} == before
  assert {*study.critics} == {"critic_merged", "critic_union", *RL}


def test_the_page_has_critics_pairs_and_claims(run, results):
  assert [row[0] for row in page.critics(results).rows][-1] == "critic_rl_random"
  assert [row[0] for row in page.pairs(results).rows][:3] == ["all", "marv", "random"]
  titles = [column.title for column in page.pipeline(results)]
  assert titles == ["Drafts", "Critics", "RL on pairs"]
  found, _ = page.said(results)
  # Of comparisons, and of what was measured beside them.
  assert len(found) == 1 + len(CRITICS) + 4 + len(page._measured(results))
  text = (run / "report" / "report.html").read_text()
  assert "Merging critiques after a meta-critic" in text and "Pairs of critiques" in text
