"""Recipe `rlaif` with teachers from files, and labels of several raters in turn."""

import gzip
import json
import logging

import jax
import ml_collections
import numpy as np
import pytest
import tiny_run

from pit_jax.configs import rlaif_alpaca
from pit_jax.data import preferences, prompt_formats
from pit_jax.feedback import annotations, judges, labels, named, writers
from pit_jax.recipes import recipe, running
from pit_jax.recipes.rlaif import arms
from pit_jax.run import checks

ROWS = 60


def shorter(questions, answers):
  return -np.array([len(answer) for answer in answers], float)


def vowels(questions, answers):
  return np.array([sum(letter in "aeiou" for letter in answer) for answer in answers], float)


def question(number):
  return f"what is {number} and {number + 1} ?"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  """Teachers' answers, and a third writer's against the weak one's with somebody's labels."""
  folder = tmp_path_factory.mktemp("files")
  teachers = [
    {"instruction": question(n), "good": f"it is {2 * n + 1}", "poor": f"it may be {n}"}
    for n in range(ROWS)
  ]
  labelled = [
    {
      "instruction": row["instruction"],
      "output_1": f"who knows {n}",
      "output_2": row["poor"],
      "preference": 1 + n % 2,
    }
    for n, row in enumerate(teachers)
  ]
  for name, rows in (("teachers", teachers), ("labelled", labelled)):
    with gzip.open(folder / f"{name}.jsonl.gz", "wt") as file:
      file.writelines(json.dumps(row) + "\n" for row in rows)
  return folder


def config(files, **changes):
  made = tiny_run.config(
    "rlaif",
    data__source=f"jsonl:{files / 'teachers.jsonl.gz'}",
    data__columns="prompt=instruction,chosen=good,rejected=poor",
    data__rows=None,
    data__fold_sizes=(1.0, 2.0),
    dpo__steps=tiny_run.STEPS,
    dpo__batch_size=4,
    rlaif__teacher="poor",
    rlaif__strong_teacher="good",
    rlaif__controls=(),
    rlaif__crossover=(),
    rlaif__critics=("either",),
    rlaif__rivals=("third",),
    rlaif__matched=False,
    evaluation__judges=("vowels",),
    **changes,
  ).unlock()
  teacher = {"kind": "file", "path": str(files / "teachers.jsonl.gz"), "prompt": "instruction"}
  annotated = str(files / "labelled.jsonl.gz")
  made.feedback = ml_collections.ConfigDict(
    {
      "writers": {
        "poor": {**teacher, "response": "poor"},
        "good": {**teacher, "response": "good"},
        "third": {**teacher, "path": annotated, "response": "output_1"},
      },
      "raters": {
        "people": {"kind": "annotations", "path": annotated},
        "short": {"kind": "function", "function": f"{__name__}:shorter"},
        "either": {"kind": "in_turn", "raters": ("people", "short")},
        "vowels": {"kind": "function", "function": f"{__name__}:vowels"},
      },
    }
  )
  return made.lock()


@pytest.fixture(scope="module")
def run(files, tmp_path_factory):
  """A finished study of files, with what it logged: read it."""
  workdir = tmp_path_factory.mktemp("study") / "run"
  told = []
  handler = logging.Handler()
  handler.emit = lambda record: told.append(record.getMessage())
  logger = logging.getLogger("pit_jax.recipes.rlaif")
  logger.addHandler(handler)
  try:
    with tiny_run.unrendered():
      running.run(config(files), workdir)
  finally:
    logger.removeHandler(handler)
  return workdir, told


def test_labels_are_the_files_where_it_has_some_and_the_other_raters_elsewhere(run, files):
  workdir, _ = run
  made = json.loads((workdir / "rows" / "rlaif_labels.json").read_text())
  number = {question(n): n for n in range(ROWS)}
  of_file = [row for row in made if row["generator_1"] == "third"]
  of_samples = [row for row in made if row["generator_1"] == "sft_10"]
  assert of_file and of_samples and len(of_file) + len(of_samples) == len(made)
  for row in of_file:
    assert (row["annotator"], row["generator_2"]) == ("people", "poor")
    assert row["preference"] == 1 + number[row["instruction"]] % 2
  for row in of_samples:
    lengths = [len(row[f"output_{i}"]) for i in (1, 2)]
    assert row["annotator"] == "short"
    assert row["preference"] in (None, 1 + (lengths[1] < lengths[0]))

  results = json.loads((workdir / "report" / "results.json").read_text())
  (arm,) = (row for row in results["arms"] if row["critic"])
  kept = {name: sum(row["preference"] is not None for row in rows)
          for name, rows in (("people", of_file), ("short", of_samples))}  # fmt: skip
  assert arm["kept_of"] == kept and arm["kept"] == sum(kept.values())
  assert results["labellers"] == ["either", "people", "short"]
  assert f"people {kept['people']}" in (workdir / "report" / "report.html").read_text()


def test_the_fewest_arms_are_four(run):
  workdir, _ = run
  results = json.loads((workdir / "report" / "results.json").read_text())
  assert [row["system"] for row in results["arms"]] == [
    "sft_10", "rlaif", "sft_100", "sft_100_strong",
  ]  # fmt: skip


def test_held_out_prompts_in_a_file_are_told_and_nobodys(run, files):
  workdir, told = run
  context = tiny_run.build(config(files), workdir)
  held_out = {row.prompt for row in context.rows.folds[preferences.HELD_OUT]}
  every = f"{len(held_out)} of the {len(held_out)} held-out prompts; no model is trained on them"
  assert len(told) == 3  # of two teachers and a third writer
  for sentence, name in zip(told, ("poor", "good", "third"), strict=True):
    assert f"(feedback.writers.{name}) has completions of {every}" in sentence
  for path in (workdir / "rows").iterdir():
    assert not any(json.dumps(prompt) in path.read_text() for prompt in held_out), path.name


def test_a_file_of_training_prompts_alone_is_not_told(files, tmp_path):
  context = tiny_run.build(config(files), tmp_path / "run")
  held_out = {row.prompt for row in context.rows.folds[preferences.HELD_OUT]}
  path = tmp_path / "own.jsonl"
  others = [question(n) for n in range(ROWS) if question(n) not in held_out]
  path.write_text("".join(json.dumps({"prompt": x, "response": "y"}) + "\n" for x in others))
  from pit_jax.stages import feedback

  assert not [*feedback.held_out_in(context, [writers.file("own", path)])]


def rater(name, known, tie=judges.EXACT_TIE):
  """A rater of numbers: what it knows of a pair is the difference that it says."""

  def verdicts(questions, a, b):
    said = [known.get(pair) for pair in zip(a, b, strict=True)]
    failures = {place: f"{name} is silent" for place, one in enumerate(said) if one is None}
    return judges.Verdicts(np.array([np.nan if x is None else x for x in said]), failures=failures)

  return judges.Judge(name, verdicts, None, tie)


def test_raters_are_asked_in_turn_about_what_those_before_do_not_know():
  first = rater("first", {("a", "b"): -1.0, ("c", "d"): 0.2}, tie=0.5)
  second = rater("second", {("a", "b"): 9.0, ("c", "d"): 9.0, ("e", "f"): 3.0, ("g", "h"): -0.3})
  pairs = [labels.Pair("q", *texts) for texts in ("ab", "cd", "ef", "gh", "ij")]
  made = labels.labels(pairs, judges.in_turn("both", [first, second]))
  assert [one.outcome for one in made.labels] == [
    "kept", "ties", "kept", "kept", "second is silent",
  ]  # fmt: skip
  assert [one.said_by for one in made.labels] == ["first", "first", "second", "second", "both"]
  assert [row["chosen"] for row in made.rows] == ["b", "e", "h"]
  assert [row["labelled_by"] for row in made.rows] == ["first", "second", "second"]
  assert made.kept_of == {"first": 1, "second": 2}
  again = labels.labelled(pairs, made.annotations, "both")
  assert again.labels == made.labels


def test_orders_that_disagree_stay_so_and_one_without_orders_agrees():
  in_order = lambda questions, a, b: judges.Verdicts(np.full(len(a), 1.0))  # noqa: E731
  fond = judges.Judge(
    "fond of the first",
    lambda *asked: judges.in_both_orders(in_order, *asked),
    None, judges.EXACT_TIE, in_order=in_order,
  )  # fmt: skip
  pairs = [labels.Pair("q", "a", "b"), labels.Pair("q", "c", "d")]
  asked = judges.in_turn("both", [rater("file", {("a", "b"): 1.0}), fond])
  made = labels.labels(pairs, asked)
  assert [one.outcome for one in made.labels] == ["kept", labels.DISAGREEING]
  one = labels.labels(pairs, asked, orders=1)
  assert [row["chosen_position"] for row in one.rows] == [1, 1]


@pytest.mark.parametrize(
  ("asked", "said"),
  [
    ((), "feedback.raters.either.raters=(); use the names of one rater or more"),
    (("gpt4", "gpt4"), "feedback.raters.either.raters=('gpt4', 'gpt4'); use the names of one rater "
     "or more, each once"),
    (("nobody",), "feedback.raters.either.raters names 'nobody'; use raters that ask nobody else"),
    (("either",), "feedback.raters.either.raters names 'either'; use raters that ask nobody else"),
  ],
)  # fmt: skip
def test_raters_that_cannot_be_asked_in_turn_are_told(files, asked, said):
  made = config(files).unlock()
  made.feedback.raters.either.raters = asked
  with pytest.raises(ValueError) as error:
    named.check(made)
  assert said in str(error.value)


def test_those_who_labelled_in_turn_do_not_judge(files):
  made = config(files).unlock()
  made.evaluation.judges = ("short",)
  (said,) = arms.problems(made)
  assert said.startswith("rlaif.critics=either, people, short label what is trained on")
  made.rlaif.rivals = ("whoever",)
  said, _ = arms.problems(made)
  assert said.startswith("rlaif.rivals names 'whoever'; use names of feedback.writers")


def test_gpt4_said_what_it_prefers_of_the_configured_pairs(shared_data):
  """What configs/rlaif_alpaca.py says of its files."""
  made = rlaif_alpaca.get_config().copy_and_resolve_references().unlock()
  made.data.source = f"jsonl:{shared_data / rlaif_alpaca.TEACHERS}"
  for section in (*made.feedback.writers.values(), made.feedback.raters.gpt4):
    section.path = str(shared_data / section.path)
  named.check(made)
  checks.values(made, recipe.of(made))
  loaded = preferences.load(made.data.source, columns=made.data.columns, on_bad_row="skip")
  assert len(loaded.rows) > 580
  asked = prompt_formats.Format("policy", plain="{prompt}").conversations(
    [row.prompt for row in loaded.rows]
  )

  def written(name):
    section = made.feedback.writers[name]
    writer = writers.file(name, section.path, prompt=section.prompt, response=section.response)
    return [text for (text,) in writer.write(asked, jax.random.key(0), 1.0).texts]

  texts = {name: written(name) for name in made.feedback.writers}
  assert texts["strong"] == [row.chosen for row in loaded.rows]
  assert texts["weak"] == [row.rejected for row in loaded.rows]
  gpt4 = annotations.rater("gpt4", made.feedback.raters.gpt4.path)
  questions = [row.prompt for row in loaded.rows]
  said = gpt4.verdicts(questions, texts["davinci"], texts["weak"])
  assert said.is_judged.mean() > 0.98
