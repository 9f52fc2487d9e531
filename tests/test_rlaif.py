"""Recipe `rlaif`: who writes and labels what, what is refused, what stays after a stop."""

import json
import multiprocessing
import signal
from unittest import mock

import jax
import judge_server
import ml_collections
import numpy as np
import pytest
import test_resume
import tiny_run
from test_endpoint import KEY

from pit_jax.data import preferences, prompt_formats
from pit_jax.feedback import annotations, endpoint, labels, named, writers
from pit_jax.recipes import recipe as recipes
from pit_jax.recipes import rlaif, running
from pit_jax.recipes.rlaif import arms
from pit_jax.rollout import inference
from pit_jax.run import checks
from pit_jax.run import context as contexts
from pit_jax.stages import feedback
from pit_jax.tasks import synthetic

UNDER_WAY = 2  # requests at once, at most
SMALL = {
  "data__rows": 260,
  "rlaif__controls": (),
  "rlaif__crossover": ("weak_50",),
  "rlaif__critics": ("strong", "random"),
}
ARMS = [
  "sft_10",
  "rlaif",
  "rlaif_random_critic",
  "sft_100",
  "sft_100_strong",
  "sft_10_strong",
  "rlaif_matched",
  "sft_10_weak_50",
  "rlaif_weak_50",
]


def config(**changes):
  return tiny_run.config("rlaif", **SMALL | changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A finished study, as small as it comes: read it."""
  workdir = tmp_path_factory.mktemp("study") / "run"
  running.run(config(), workdir)
  return workdir


def rows_of(workdir, name):
  return [json.loads(line) for line in (workdir / "rows" / f"{name}.jsonl").open()]


def labels_of(workdir, name):
  return json.loads((workdir / "rows" / f"{name}.json").read_text())


def test_every_arm_is_trained_compared_and_told(run):
  results = json.loads((run / "report" / "results.json").read_text())
  assert [row["system"] for row in results["arms"]] == ARMS
  assert {*ARMS, "rlaif_resampled", "chosen", "rejected"} == {*results["systems"]}
  compared = {(row["a"], row["b"]) for row in results["comparisons"]}
  for arm in ARMS:  # each between both ends of the study
    assert arm == "sft_10" or (arm, "sft_10") in compared
    assert arm == "sft_100_strong" or ("sft_100_strong", arm) in compared
  assert {row["judge"] for row in results["comparisons"]} == {"gold", "even"}
  assert results["headline"] == ["rlaif", "sft_10"] and results["labellers"] == ["random", "strong"]
  assert results["about"]["rlaif"] == (
    "sft_10 after DPO on labels of strong, against answers of weak"
  )
  text = (run / "report" / "report.html").read_text()
  assert "What AI feedback adds to the policy" in text and "strong on weak_50’s" in text
  assert "even" in text and "a rater that the configuration names (kind critic)" in text
  assert "a reward model that the run trained" not in text


def test_prompts_that_are_imitated_are_never_labelled(run):
  imitated = {row["prompt"] for row in rows_of(run, "weak_on_demonstrations")}
  asked = {row["prompt"] for row in rows_of(run, "weak_on_feedback")}
  labelled = {row["instruction"] for row in labels_of(run, "rlaif_labels")}
  assert imitated and labelled
  assert labelled <= asked and not imitated & asked


def test_held_out_prompts_are_nobodys(run):
  context = tiny_run.build(config(), run)
  held_out = {row.prompt for row in context.rows.folds["held_out"]}
  for path in (run / "rows").glob("*"):
    text = path.read_text()
    rows = json.loads(text) if path.suffix == ".json" else map(json.loads, text.splitlines())
    told = {row.get("prompt", row.get("instruction")) for row in rows}
    assert not told & held_out, path.name


def test_the_students_sample_is_shown_first_and_both_are_of_the_prompt(run):
  samples = {row["prompt"]: row["response"] for row in rows_of(run, "sft_10_samples")}
  teacher = {row["prompt"]: row["response"] for row in rows_of(run, "weak_on_feedback")}
  for row in labels_of(run, "rlaif_labels"):
    assert (row["generator_1"], row["generator_2"]) == ("sft_10", "weak")
    assert row["output_1"] == samples[row["instruction"]]
    assert row["output_2"] == teacher[row["instruction"]]
    assert row["annotator"] == "strong"


def test_the_labels_are_a_file_that_raters_read(run):
  path = run / "rows" / "rlaif_labels.json"
  rows = labels_of(run, "rlaif_labels")
  rater = annotations.rater("again", path)
  columns = zip(*((row["instruction"], row["output_1"], row["output_2"]) for row in rows))
  said = rater.verdicts(*columns)
  expected = [{1: 1.0, 2: -1.0, None: np.nan}[row["preference"]] for row in rows]
  np.testing.assert_array_equal(said.difference, expected)


def test_the_critics_accuracy_is_told_and_chooses_nothing(run):
  results = json.loads((run / "report" / "results.json").read_text())
  for row in results["arms"]:
    if not row["critic"]:
      assert "right" not in row
      continue
    made = labels_of(run, f"{row['system']}_labels")
    kept = [one for one in made if one["preference"]]
    assert row["kept"] == len(kept) and sum(row["labels"].values()) == len(made)
    gold = [
      [synthetic.gold(one["instruction"], one[f"output_{i}"]) for i in (1, 2)] for one in kept
    ]
    decided = [(a > b) == (one["preference"] == 1) for one, (a, b) in zip(kept, gold) if a != b]
    np.testing.assert_allclose(row["right"], np.mean(decided))


def test_a_study_that_goes_on_asks_nobody_again(run, tmp_path):
  asked = mock.Mock(side_effect=AssertionError("asked again"))
  files = tiny_run.files(run / "rows")
  context = tiny_run.build(config(), run)
  with (
    mock.patch.object(writers.Writer, "write", asked),
    mock.patch.object(labels, "labels", asked),
  ):
    study = rlaif.RECIPE.train(context)
  assert [*study.policies] == ARMS and [*study.labelled] == [
    "rlaif",
    "rlaif_random_critic",
    "rlaif_matched",
    "rlaif_weak_50",
  ]
  assert tiny_run.files(run / "rows") == files


def test_a_label_that_was_paid_for_is_not_paid_for_again(tmp_path, monkeypatch):
  """The process ends in the middle of labelling; the endpoint counts what it is asked."""
  monkeypatch.setenv(endpoint.KEY, KEY)
  made = config().unlock()
  asked = {"kind": "language_model", "model": "some-model"}
  pairs = [labels.Pair(f"q{i}", f"it is {i + 2}", f"it is {i + 1}") for i in range(6)]

  with judge_server.serving() as server:
    made.feedback.raters.llm = ml_collections.ConfigDict({**asked, "base_url": server.url})
    context = mock.Mock(spec=contexts.Context, workdir=tmp_path, config=made)
    words = mock.Mock(tokenizer=mock.Mock(encode_batch=lambda texts: [[1] for _ in texts]))
    context.models = mock.Mock(inference=mock.Mock(spec=inference.Inference, settings=words))
    labels.labels(pairs[:3], named.build(context, "raters", "llm"))  # as far as it came
    before = len(server.asked)
    parts = {"rows": pairs[:5], "validation": pairs[5:]}
    rater = named.build(context, "raters", "llm")
    labelled = feedback.labelled(context, "labels", parts, rater, most_failed=0)
    once = len(server.asked)
    again = feedback.labelled(context, "labels", parts, rater, most_failed=0)

  assert (before, once, len(server.asked)) == (6, 12, 12)  # each pair in both orders
  assert labelled.counts["kept"] == 6 and again.made == labelled.made
  assert [row.chosen for row in labelled.fold.rows] == [pair.a for pair in pairs[:5]]


def asking(url):
  """Returns the configuration of a study whose critic is behind an endpoint."""
  made = config(rlaif__crossover=(), rlaif__orders=1, data__rows=140).unlock()
  llm = {"kind": "language_model", "model": "some-model", "base_url": url, "concurrency": UNDER_WAY}
  made.feedback.raters.llm = ml_collections.ConfigDict(llm)
  made.rlaif.critics = ("llm",)
  return made.lock()


def _study(url, workdir):
  running.run(asking(url), workdir)


@pytest.mark.slow
def test_a_study_killed_in_the_middle_of_labelling_pays_for_no_label_twice(
  tmp_path, monkeypatch, unrendered
):
  """Both come to the same files, and what was answered before the kill is not asked again."""
  monkeypatch.setenv(endpoint.KEY, KEY)
  undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
  with judge_server.serving() as server:
    _study(server.url, undisturbed)
    once = len(server.asked)
    server.asked.clear()
    process = multiprocessing.get_context("spawn").Process(target=_study, args=(server.url, killed))
    server.on_request = lambda count: count == once // 3 and process.kill()
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL and not [*killed.glob("rows/*_labels.json")]
    server.on_request = lambda count: None
    _study(server.url, killed)

  again = len(server.asked) - len({*server.asked})
  assert len({*server.asked}) == once and again <= UNDER_WAY, "who was not answered is asked anew"
  assert tiny_run.files(killed / "rows") == tiny_run.files(undisturbed / "rows")
  states = (test_resume.final_states(path, tiny_run.STEPS) for path in (killed, undisturbed))
  assert next(states) == next(states)
  assert test_resume.results(killed) == test_resume.results(undisturbed)


def completed(tmp_path, fails=(), most_failed=0.5):
  """Completions of eight prompts by a writer that fails on some."""
  policy = prompt_formats.Format("policy", plain="{prompt}")
  context = mock.Mock(spec=contexts.Context, workdir=tmp_path, rows=mock.Mock())
  context.rows.settings.formats = {"policy": policy}
  context.key.return_value = jax.random.key(0)
  context.config = ml_collections.ConfigDict({"rlaif": {"most_failed": most_failed}})
  rows = [preferences.Preference(f"q{i}", "never", "read") for i in range(8)]

  def write(asked, *_):
    prompts = [one.prompt for one in asked]
    texts = [[None] if prompt in fails else [f"to {prompt}"] for prompt in prompts]
    failed = {place: "no reply" for place, prompt in enumerate(prompts) if prompt in fails}
    return writers.Written(texts, failed)

  fold = preferences.Fold(tuple(rows[:6]), tuple(rows[6:]))
  writer = writers.Writer("teacher", write)
  return feedback.completions(context, "made", fold, writer, most_failed=most_failed)


def test_failed_completions_are_counted_and_left_out(tmp_path, caplog):
  made = completed(tmp_path, {"q1", "q7"})
  assert [row.prompt for row in made.demonstrations.rows] == ["q0", "q2", "q3", "q4", "q5"]
  assert [row.chosen for row in made.demonstrations.validation] == ["to q6"]
  assert made.failures == {"no reply": 2}
  assert "writer teacher failed on 2 of 8 prompts (no reply: 2); they are left out" in caplog.text
  again = completed(tmp_path, {"q1", "q7"})
  assert again.made == made.made and again.failures == made.failures


def test_more_failures_than_are_allowed_end_the_run(tmp_path):
  with pytest.raises(ValueError) as error:
    completed(tmp_path, {"q0", "q1", "q2"}, most_failed=0.25)
  assert str(error.value) == (
    "writer teacher failed on 3 of 8 prompts (no reply: 3), more than a share of 0.25; mend "
    "what failed, or raise rlaif.most_failed"
  )


def test_completions_of_other_prompts_are_refused(tmp_path):
  completed(tmp_path)
  path = tmp_path / "rows" / "made.jsonl"
  path.write_text(path.read_text().replace('"q3"', '"q33"'))
  with pytest.raises(ValueError, match="completions of other prompts; remove it"):
    completed(tmp_path)


def test_equal_texts_are_no_pair(tmp_path):
  first = completed(tmp_path / "a")
  second = completed(tmp_path / "b", {"q2"})
  texts = {**{f"q{i}": f"to q{i}" for i in range(8)}, "q4": "another"}
  parts = {part: [(q, texts[q]) for q, _ in rows] for part, rows in second.parts.items()}
  second = feedback.Completions(second.made, parts, {})
  paired = feedback.pairs(first, second)
  assert [(pair.prompt, pair.a, pair.b) for pair in paired["rows"]] == [("q4", "to q4", "another")]
  assert paired["validation"] == []


def test_the_recipe_is_of_three_kinds_of_teachers_and_announces_every_row(capsys, tmp_path):
  context = tiny_run.build(config(), tmp_path)
  folds = context.rows.folds
  both = context.rows.fold("demonstrations+feedback")
  assert both.rows == folds["demonstrations"] + folds["feedback"]
  parts = [folds[f"{name}_validation"] for name in ("demonstrations", "feedback")]
  assert both.validation == sum(parts, ())
  planned = {stage.name: stage for stage in arms.stages(context.config)}
  assert planned["sft_100"].fold == "demonstrations+feedback" and not planned["sft_10"].fold
  wrong = config().unlock()
  wrong.sft.fold = "demonstrations+elsewhere"
  with pytest.raises(ValueError, match="sft.fold=.demonstrations.elsewhere.; use one of data.fold"):
    checks.values(wrong, recipes.of(wrong))
