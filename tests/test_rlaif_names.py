"""Who writes, rates and judges in recipe `rlaif`: names refused, and who is independent."""

import json
import pathlib
import re
import sys

import ml_collections
import pytest
import test_rlaif
import tiny_run

from pit_jax import configurations
from pit_jax.evaluate import findings, subject
from pit_jax.feedback import named
from pit_jax.recipes import running
from pit_jax.recipes.rlaif import arms, page
from pit_jax.report import verdict
from pit_jax.tasks import synthetic

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"rlaif__critics": ()}, "rlaif.critics=(); use the names of one critic or more"),
    ({"rlaif__critics": ("nobody",)}, "rlaif.critics names 'nobody'; use names of feedback.raters"),
    (
      {"rlaif__teacher": "who"},
      "rlaif.teacher names 'who'; use names of feedback.writers, which",
    ),
    ({"rlaif__crossover": ("x",)}, "rlaif.crossover names 'x'; use names of"),
    ({"evaluation__judges": ("who",)}, "evaluation.judges names 'who'; use names of"),
  ],
)
def test_names_that_nobody_has_are_told_before_training(tmp_path, changes, said):
  with pytest.raises(ValueError, match=re.escape(said)):
    running.run(test_rlaif.config(**changes), tmp_path / "run")
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"rlaif__critics": ("strong", "strong")}, "rlaif.critics=('strong', 'strong'); use the names "
     "of one critic or more, each once"),
    ({"rlaif__rivals": ("weak_50", "weak_50")}, "rlaif.rivals=('weak_50', 'weak_50'); use a list "
     "of names, each once"),
    ({"rlaif__controls": ("weak_50", "weak_50")}, "rlaif.controls=('weak_50', 'weak_50'); use a"),
    ({"rlaif__crossover": ("weak_50", "weak_50")}, "rlaif.crossover=('weak_50', 'weak_50'); use"),
    ({"evaluation__judges": ("even", "even")}, "evaluation.judges=('even', 'even'); use names of "
     "feedback.raters, each once"),
    ({"rlaif__rivals": ("weak",)}, "rlaif.rivals=('weak',) names 'weak', and it is the teacher of "
     "rlaif, whose answers those of the rivals are labelled against; use other names of feedback"),
    ({"rlaif__rivals": ("strong",)}, "it is the teacher of rlaif_matched, whose answers"),
    ({"rlaif__rivals": ("weak_50",)}, "it is the teacher of rlaif_weak_50, whose answers"),
    ({"rlaif__strong_teacher": "weak"}, "rlaif.strong_teacher='weak' names 'weak', and "
     "rlaif.teacher is the same; use other names of feedback.writers"),
    ({"rlaif__controls": ("weak",)}, "rlaif.controls=('weak',) names 'weak', and sft_100 is "
     "trained on it; use"),
    ({"rlaif__controls": ("strong",)}, "and sft_100_strong is trained on it; use"),
    ({"rlaif__crossover": ("weak",)}, "rlaif.crossover=('weak',) names 'weak', and rlaif is "
     "trained on it; use"),
    ({"rlaif__crossover": ("strong",)}, "and rlaif_matched is trained on it; use"),
    ({"rlaif__strong_teacher": "weak_50", "rlaif__controls": ("strong",)}, "two arms would be "
     "called sft_100_strong, as rlaif.critics="),
  ],
)  # fmt: skip
def test_who_is_named_twice_is_told_before_training(tmp_path, changes, said):
  with pytest.raises(ValueError, match=re.escape(said)):
    running.run(test_rlaif.config(**changes), tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_a_strong_teacher_without_feedback_may_be_a_rival():
  assert not [*arms.problems(test_rlaif.config(rlaif__rivals=("strong",), rlaif__matched=False))]


def test_who_labelled_is_no_independent_judge_under_any_name(tmp_path):
  made = test_rlaif.config(rlaif__critics=("truth",)).unlock()
  made.feedback.raters.truth = ml_collections.ConfigDict({"kind": "gold"})
  made.feedback.raters.twin = ml_collections.ConfigDict({"kind": "gold"})
  assert arms.trainers(made) == ["truth", "twin", "gold"]
  context = tiny_run.build(test_rlaif.config(), tmp_path / "run")
  asked = subject.suite_of(context, policy={}, sampler={}, labellers=arms.trainers(made))
  assert [judge.name for judge in asked.judges] == ["even", "gold"], "the most believed first"
  results = {"labellers": arms.trainers(made)}
  assert verdict.described("gold", results, page.PAGE) == (
    "the gold score, which labelled what models here were trained on"
  )
  (note,) = findings._notes(context, asked)
  assert note.startswith("even is a rater that the configuration names and that labelled nothing")
  with pytest.raises(ValueError, match="names 'truth', which is of kind gold, and the gold score"):
    made.evaluation.judges = ("truth",)
    named.check(made)


def judged_by(**parts):
  """A study on rows without a gold score, with these judges."""
  changed = test_rlaif.config(data__source="example", **parts)
  return [*arms.problems(changed)]


def test_who_labelled_is_not_the_only_judge():
  assert not judged_by()  # `even` judges too
  (said,) = judged_by(evaluation__judges=())
  assert said.startswith("rlaif.critics=strong, random label what is trained on, and nobody else")
  (said,) = judged_by(evaluation__judges=("strong",))
  assert "nobody else judges" in said
  assert not judged_by(evaluation__judges=(), evaluation__reward_model="some/where")
  twin = test_rlaif.config(data__source="example", evaluation__judges=("twin",)).unlock()
  twin.feedback.raters.twin = ml_collections.ConfigDict(twin.feedback.raters.strong.to_dict())
  (said,) = arms.problems(twin)  # the same rater under another name
  assert "nobody else judges" in said
  gold = test_rlaif.config(evaluation__judges=(), rlaif__critics=("g",)).unlock()
  gold.feedback.raters.g = ml_collections.ConfigDict({"kind": "gold"})
  (said,) = arms.problems(gold)  # the embedded task's gold score is no second opinion then
  assert "nobody else judges" in said


def test_the_page_has_a_configuration_with_teachers_and_critics_of_ones_own(tmp_path, monkeypatch):
  page = (ROOT / "docs" / "recipes" / "rlaif.md").read_text(encoding="utf-8")
  configuration, raters = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
  (tmp_path / "mine.py").write_text(configuration)
  (tmp_path / "my_raters.py").write_text(raters)
  rows = [
    {"question": row["prompt"], "mine": row["rejected"], "better": row["chosen"]}
    for row in synthetic.preferences(60, seed=0)
  ]
  (tmp_path / "pool.jsonl").write_text("\n".join(map(json.dumps, rows)))
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(str(tmp_path))
  monkeypatch.delitem(sys.modules, "my_raters", raising=False)

  made = configurations.load("mine.py:tiny")
  named.check(made)
  context = tiny_run.build(made, tmp_path / "run")
  assert len(context.rows.data.rows) == 60
  assert [arm.system for arm in arms.of(made)] == [
    "sft_10", "rlaif", "sft_100", "sft_100_strong", "sft_10_strong", "rlaif_matched",
  ]  # fmt: skip
  for name in ("polite", "brief"):
    judge = named.build(context, "raters", name)
    assert judge.score(["q"], ["Thanks for all."]) == {"polite": 1.0, "brief": -3.0}[name]
