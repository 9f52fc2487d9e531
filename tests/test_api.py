"""The Python door: finished runs, preferences and training from a program."""

import inspect
import json
import subprocess
import sys

import datasets
import jax
import numpy as np
import pytest
import tiny_models
import tiny_run

import pit_jax
from pit_jax.api import runs
from pit_jax.exchange import export

ONE = (1, 1, 1)
PROMPTS = ["what is it ?", [{"role": "user", "content": "the last word ?"}]]
ROWS = [
  {"prompt": f"question {i} ?", "chosen": f"a good answer {i}", "rejected": f"an answer {i}"}
  for i in range(150)
]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  folder = tmp_path_factory.mktemp("run")
  asking = tiny_models.inference_of(folder / "tokenizer")
  export.save(folder, asking, tiny_models.models_of(asking), zero_point=0.25)
  return folder


@pytest.fixture(scope="module")
def run(workdir):
  return pit_jax.load(workdir, mesh=ONE, batch_size=2)


def test_importing_the_library_imports_neither_jax_nor_transformers():
  code = "import pit_jax, sys; print({'jax', 'transformers', 'numpy'} & {*sys.modules})"
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert done.stdout == "set()\n"


def test_the_library_shows_what_it_offers():
  assert {"load", "train", "get_config", "Preferences", "Run"} <= {*dir(pit_jax)}
  assert pit_jax.load is runs.load
  with pytest.raises(AttributeError, match="no attribute 'lod'"):
    _ = pit_jax.lod


def test_answers_are_the_policy_s(run, workdir):
  models = export.load(workdir, mesh=run.improver.inference.mesh, batch_size=2)
  asked = ["what is it ?", "the last word ?"]
  expected = models.inference.answer(models.policy, asked, jax.random.key(3), 0.5)
  assert run.answer(asked, temperature=0.5, seed=3) == expected
  assert run.answer([]) == []


def test_improvement_tells_every_version_its_gap_and_why_it_stopped(run):
  made = run.improve(PROMPTS[:1] * 2, ["the word", None], rounds=2, temperature=0.0)
  assert len(made) == 2 and made[0].draft == "the word"
  for one in made:
    drafts = [one.draft, *(version.text for version in one.rounds)]
    for before, version in zip(drafts, one.rounds, strict=False):
      pair = [PROMPTS[0]], [version.text], [before]
      forth = run.gap(*pair)
      back = run.gap(pair[0], pair[2], pair[1])
      assert version.gap == pytest.approx(((forth - back) / 2).item(), abs=1e-4)

    gains = [version.gap > 0 for version in one.rounds]
    assert all(gains[:-1]) and one.stopped == (None if gains[-1] else len(gains))
    assert one.text == drafts[sum(gains)]


def test_why_names_the_round_and_what_is_kept():
  rounds = (runs.Round("b", 0.5), runs.Round("c", -0.25))
  assert "round 2 gains -0.250" in runs.Improved("b", "a", rounds, 2).why
  assert "round 1 is kept" in runs.Improved("b", "a", rounds, 2).why
  assert "the draft is kept" in runs.Improved("a", "a", rounds[1:], 1).why
  assert runs.Improved("b", "a", rounds[:1], None).why == "round 1 was the last that was asked for"


def test_scores_are_the_reward_model_s(run, workdir):
  model = export.load_one(workdir, "reward", mesh=run.improver.inference.mesh, batch_size=2)
  texts = ["the word", "the last"]
  asked = ["what is it ?", "the last word ?"]
  np.testing.assert_allclose(
    run.score(asked, texts), model.asking.rate(model.params, asked, texts), atol=1e-6
  )


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda run: run.answer([""]), "row 0: .*empty"),
    (lambda run: run.answer(["x", []]), "row 1: .*'prompt'"),
    (lambda run: run.answer(["x"], temperature=-1), "temperature=-1; use 0"),
    (lambda run: run.improve(["x"], ["y", "z"]), "1 prompts and 2 responses; give one for each"),
    (lambda run: run.improve(["x"], rounds=0), "rounds=0 improves nothing"),
    (lambda run: run.gap(["x"], ["y"], []), "1 prompts and 0 references"),
    (lambda run: run.gap(["x"], ["y"], [""]), "row 0: the reference is empty"),
    (lambda run: run.score(["x"], [""]), "row 0: the response is empty"),
  ],
)
def test_bad_rows_are_named(run, call, message):
  with pytest.raises(ValueError, match=message):
    call(run)


def test_a_text_for_a_list_of_prompts_is_refused(run):
  with pytest.raises(ValueError, match=r"give a list of prompts, such as \['what is it"):
    run.answer("what is it ?")


def unchecked(function):
  """Returns a function without the check of types that tests alone have."""
  return inspect.unwrap(function)


def test_rows_for_a_list_of_prompts_are_refused(run):
  with pytest.raises(ValueError, match=r'give prompts=\[row\["prompt"\] for row in rows\]'):
    unchecked(runs.Run.improve)(run, [{"prompt": "what is it ?", "response": "the word"}])


def test_the_export_is_the_run(run, workdir):
  export_folder = pit_jax.load(workdir / "models", mesh=ONE, batch_size=2)
  assert export_folder.models == run.models == ("policy", "reward", "improver", "gap_reward")


@pytest.mark.parametrize(
  ("given", "message"),
  [
    ({"batch_size": 0}, "batch_size=0; use 1 or more"),
    ({"stop_rule": "never"}, "stop_rule='never'; use one of both_orders"),
  ],
)
def test_loading_refuses_values_that_are_not_allowed(workdir, given, message):
  with pytest.raises(ValueError, match=message):
    pit_jax.load(workdir, mesh=ONE, **given)


def test_a_folder_without_a_run_says_how_to_make_one(tmp_path):
  with pytest.raises(ValueError, match="holds no finished run"):
    pit_jax.load(tmp_path)


def test_preferences_come_from_lists_data_sets_and_files(tmp_path):
  listed = pit_jax.Preferences([*ROWS, {"prompt": "no answers"}])
  assert len(listed) == 150 and sum(listed.skipped.values()) == 1
  assert pit_jax.Preferences(datasets.Dataset.from_list(ROWS)).rows == listed.rows

  listed.save(tmp_path / "rows.jsonl")
  assert pit_jax.Preferences.read(f"jsonl:{tmp_path}/rows.jsonl").rows == listed.rows
  first = json.loads((tmp_path / "rows.jsonl").read_text().splitlines()[0])
  assert first == ROWS[0]

  with pytest.raises(ValueError, match="rows holds no usable row"):
    pit_jax.Preferences([{"prompt": "x"}])


def test_a_file_s_name_for_rows_says_how_it_is_read():
  for name, source in (("mine.jsonl", "jsonl:mine.jsonl"), ("mine.csv.gz", "csv:mine.csv.gz")):
    with pytest.raises(ValueError, match=rf'Preferences\.read\("{source}"\)'):
      unchecked(pit_jax.Preferences.__init__)(object.__new__(pit_jax.Preferences), name)


def test_columns_of_a_program_s_rows_can_be_renamed(tmp_path):
  rows = [{"q": row["prompt"], "good": row["chosen"], "bad": row["rejected"]} for row in ROWS]
  columns = "prompt=q,chosen=good,rejected=bad"
  expected = pit_jax.Preferences(ROWS)
  assert pit_jax.Preferences(rows, columns=columns).rows == expected.rows
  (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  source = f"jsonl:{tmp_path / 'rows.jsonl'}"
  assert pit_jax.Preferences.read(source, columns=columns).rows == expected.rows
  with pytest.raises(ValueError, match="there is no column 'nothing' to be 'prompt'"):
    pit_jax.Preferences(rows, columns="prompt=nothing")


@pytest.mark.slow
def test_a_program_trains_on_its_own_rows_and_goes_on(tmp_path):
  config = tiny_run.config("reward")
  rows = pit_jax.Preferences(ROWS)
  run = pit_jax.train(config, tmp_path / "run", preferences=rows)
  assert "reward" in run.models
  assert np.isfinite(run.score(["question 1 ?"], ["a good answer 1"])).all()

  results = json.loads((tmp_path / "run" / "report" / "results.json").read_text())
  assert results["recipe"] == "reward"
  pit_jax.train(config, tmp_path / "run", preferences=rows)
  with pytest.raises(ValueError, match="holds a run on other preferences"):
    pit_jax.train(config, tmp_path / "run", preferences=pit_jax.Preferences(ROWS[:-1]))
