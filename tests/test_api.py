"""The Python door: finished runs, preferences and training from a program."""

import inspect
import json
import os
import pathlib
import subprocess
import sys

import datasets
import jax
import jaxtyping
import numpy as np
import pytest
import tiny_run

import pit_jax
from pit_jax import hosts
from pit_jax.api import runs
from pit_jax.exchange import export
from pit_jax.recipes import running

ONE = (1, 1, 1)
PROMPTS = ["what is it ?", [{"role": "user", "content": "the last word ?"}]]
CONVERSATION = [{"role": "user", "content": "the last word ?"}]
ROWS = [
  {"prompt": f"question {i} ?", "chosen": f"a good answer {i}", "rejected": f"an answer {i}"}
  for i in range(150)
]


@pytest.fixture(scope="module")
def run(tiny_export):
  return pit_jax.load(tiny_export, mesh=ONE, batch_size=2)


@pytest.fixture(autouse=True)
def untyped():
  """Programs run without the types that tests check: what they hand over reaches the library."""
  jaxtyping.config.update("jaxtyping_disable", True)
  yield
  jaxtyping.config.update("jaxtyping_disable", False)


def test_importing_the_library_imports_neither_jax_nor_transformers():
  code = "import pit_jax, sys; print({'jax', 'transformers', 'numpy'} & {*sys.modules})"
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert done.stdout == "set()\n"


def test_the_library_shows_what_it_offers():
  assert {"load", "train", "get_config", "Preferences", "Run"} <= {*dir(pit_jax)}
  assert pit_jax.load is runs.load
  with pytest.raises(AttributeError, match="no attribute 'lod'"):
    _ = pit_jax.lod


def test_answers_are_the_policy_s(run, tiny_export):
  models = export.load(tiny_export, mesh=run.improver.inference.mesh, batch_size=2)
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


def test_scores_are_the_reward_model_s(run, tiny_export):
  model = export.load_one(tiny_export, "reward", mesh=run.improver.inference.mesh, batch_size=2)
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
    (lambda run: run.answer(["x"], temperature=-1), "temperature=-1; use a number, 0 or more"),
    (lambda run: run.improve(["x"], ["y", "z"]), "1 prompts and 2 drafts; give one for each"),
    (lambda run: run.improve(["x"], rounds=0), "rounds=0; use a whole number, 1 or more"),
    (lambda run: run.gap(["x"], ["y"], []), "1 prompts and 0 references"),
    (lambda run: run.gap(["x"], ["y"], [""]), "row 0: the reference is empty"),
    (lambda run: run.score(["x"], [""]), "row 0: the response is empty"),
    (lambda run: run.score(["x"], ["  "]), "row 0: the response is empty"),
    (lambda run: run.score(["x"], [b"hi"]), "row 0: the response must be a text, not bytes"),
    (lambda run: run.score(["x"], ["\ud800"]), "row 0: invalid UTF-8"),
    (lambda run: run.score(["x", "y"], "ab"), "responses='ab'; give a list of texts"),
    (lambda run: run.gap(["x"], ["y"], [5]), "row 0: the reference must be a text, not int 5"),
    (lambda run: run.gap(["x"], ["y"], [float("nan")]), "row 0: the reference must be a text"),
    (lambda run: run.gap(["x"], ["y"], [["a"]]), "row 0: the reference must be a text, not list"),
    (lambda run: run.gap(["x"], "y", "z"), "responses='y'; give a list"),
    (lambda run: run.improve(["x"], "y"), "drafts='y'; give a list"),
    (lambda run: run.improve(["x"], [CONVERSATION]), "the draft must be a text, not list"),
    (lambda run: run.improve(CONVERSATION, ["x"]), "prompts is one conversation; give a list of"),
    (lambda run: run.answer(CONVERSATION), "prompts is one conversation; give a list of"),
    (lambda run: run.answer({"prompt": "x"}), "prompts={'prompt': 'x'}; give a list of prompts"),
    (
      lambda run: run.answer([{"prompt": "x"}]),
      "row 0: a prompt is a text or messages, and this is",
    ),
    (lambda run: run.answer(None), "prompts=None; give a list"),
    (lambda run: run.answer(["x"], seed=2**70), "seed=1180591620717411303424; use a whole number"),
    (lambda run: run.answer(["x"], seed="a"), "seed='a'; use a whole number"),
    (lambda run: run.answer(["x"], seed=1.5), "seed=1.5; use a whole number"),
    (lambda run: run.answer(["x"], temperature="1"), "temperature='1'; use a number, 0 or more"),
    (lambda run: run.answer(["x"], temperature=None), "temperature=None; use a number"),
    (lambda run: run.improve(["x"], temperature=float("inf")), "temperature=inf; use a number"),
    (lambda run: run.improve(["x"], rounds=1.5), "rounds=1.5; use a whole number, 1 or more"),
    (lambda run: run.improve(["x"], rounds="2"), "rounds='2'; use a whole number"),
    (lambda run: run.improve(["x"], rounds=None), "rounds=None; use a whole number"),
    (lambda run: run.improve([], rounds=0), "rounds=0; use a whole number"),
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


def test_the_export_is_the_run(run, tiny_export):
  export_folder = pit_jax.load(tiny_export / "models", mesh=ONE, batch_size=2)
  assert export_folder.models == run.models == ("policy", "reward", "improver", "gap_reward")


@pytest.mark.parametrize(
  ("given", "message"),
  [
    ({"batch_size": 0}, "batch_size=0; use a whole number, 1 or more"),
    ({"batch_size": "4"}, "batch_size='4'; use a whole number, 1 or more"),
    ({"batch_size": 2.5}, "batch_size=2.5; use a whole number, 1 or more"),
    ({"stop_rule": "never"}, "stop_rule='never'; use one of both_orders"),
    ({"margin": "a"}, "margin='a'; use a number"),
    ({"margin": float("nan")}, "margin=nan; use a number"),
    ({"mesh": 5}, r"mesh=5; give the sizes of data, fsdp and tensor, such as \(-1, 1, 1\)"),
    ({"mesh": "abc"}, "mesh='abc'; give the sizes"),
  ],
)
def test_loading_refuses_values_that_are_not_allowed(tiny_export, given, message):
  with pytest.raises(ValueError, match=message):
    pit_jax.load(tiny_export, **{"mesh": ONE, **given})


@pytest.mark.parametrize("place", [None, 3, "", b"runs"])
def test_what_names_no_place_is_refused(place):
  with pytest.raises(ValueError, match="place=.*; name a place, such as 'runs/demo'"):
    pit_jax.load(place)


def test_nothing_asked_is_nothing_told(run):
  assert run.answer([]) == [] == run.improve([])
  assert run.score(iter(PROMPTS[:1]), iter(["the word"])).shape == (1,)
  assert run.gap([], [], []).shape == run.score([], []).shape == (0,)


def test_numbers_of_numpy_are_numbers(run):
  options = {"temperature": np.float32(0.5), "seed": np.int64(3)}
  assert run.answer(PROMPTS[:1], **options) == run.answer(PROMPTS[:1], temperature=0.5, seed=3)


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


@pytest.mark.parametrize(
  ("rows", "message"),
  [
    (None, "rows=None; give a list of mappings"),
    (5, "rows=5; give a list of mappings"),
    (ROWS[0], "rows is dict with prompt, chosen, rejected; give a list of rows"),
    (datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS)), "DatasetDict with train; give"),
  ],
)
def test_what_are_no_rows_is_told_with_what_to_give(rows, message):
  with pytest.raises(ValueError, match=message):
    pit_jax.Preferences(rows)


def test_a_table_is_told_how_its_rows_are_had():
  pandas = pytest.importorskip("pandas")
  with pytest.raises(ValueError, match="rows is a table; .*to_dict"):
    pit_jax.Preferences(pandas.DataFrame(ROWS))


def test_reading_takes_a_source_and_a_whole_number(tmp_path):
  with pytest.raises(ValueError, match="such as 'jsonl:.*mine.jsonl'"):
    pit_jax.Preferences.read(tmp_path / "mine.jsonl")
  for limit in ("3", 1.5, 0):
    with pytest.raises(ValueError, match="limit=.*; use a whole number, 1 or more"):
      pit_jax.Preferences.read("example", limit=limit)


def test_a_folder_is_no_file_to_save_to(tmp_path):
  (tmp_path / "folder").mkdir()
  (tmp_path / "file").touch()
  with pytest.raises(ValueError, match="is a folder; name a file"):
    pit_jax.Preferences(ROWS).save(tmp_path / "folder")
  with pytest.raises(ValueError, match="file is a file; name a file in a folder"):
    pit_jax.Preferences(ROWS).save(tmp_path / "file" / "rows.jsonl")
  assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize(
  ("given", "message"),
  [
    ({"config": None}, "config is NoneType; name one, such as 'pit:tiny'"),
    ({"config": pathlib.Path("absent.py")}, "there is no file absent.py"),
    ({"preferences": ROWS[:1]}, r"preferences is list; give pit_jax.Preferences\(rows\)"),
    ({"workdir": "file"}, "workdir=file is a file; name a folder"),
    ({"workdir": None}, "workdir=None; name a place"),
  ],
)
def test_training_says_what_it_takes(given, message, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  pathlib.Path("file").touch()
  with pytest.raises(ValueError, match=message):
    pit_jax.train(**{"config": "pit:tiny", "workdir": "run", **given})


def test_a_refused_call_leaves_the_workdir_free_and_a_foreign_run_as_it_is(tmp_path, monkeypatch):
  seen = []

  def refuse(config, _):
    seen.append(config.data)
    raise ValueError("refused")

  monkeypatch.setattr(running, "run", refuse)
  for rows in (ROWS, ROWS[:-1]):  # the second is no other run's
    with pytest.raises(ValueError, match="refused"):
      pit_jax.train("pit:tiny", tmp_path / "run", preferences=pit_jax.Preferences(rows))
  written = (tmp_path / "run" / "rows" / "preferences.jsonl").read_text()
  assert len(written.splitlines()) == len(ROWS) - 1
  # By its place below the workdir, which may be moved; in the form that they were written in.
  assert (seen[0].source, seen[0].schema) == ("workdir:rows/preferences.jsonl", "standard")

  (tmp_path / "other").mkdir()
  (tmp_path / "other" / "config.json").write_text("{}")
  with pytest.raises(ValueError, match="holds a run on other preferences"):
    pit_jax.train("pit:tiny", tmp_path / "other", preferences=pit_jax.Preferences(ROWS))
  assert not (tmp_path / "other" / "rows").exists()


@pytest.mark.slow
def test_a_program_trains_on_its_own_rows_and_goes_on(unrendered, tmp_path, monkeypatch):
  monkeypatch.delenv("LIBTPU_INIT_ARGS", raising=False)
  config = tiny_run.config("reward")
  rows = pit_jax.Preferences(ROWS)
  run = pit_jax.train(config, tmp_path / "run", preferences=rows)
  # As by the command, whose kept programs would not be found without.
  said = os.environ["LIBTPU_INIT_ARGS"]
  assert all(f"--{name}={value}" in said for name, value in hosts.TPU_OPTIONS.items())
  assert "reward" in run.models
  assert np.isfinite(run.score(["question 1 ?"], ["a good answer 1"])).all()

  results = json.loads((tmp_path / "run" / "report" / "results.json").read_text())
  assert results["recipe"] == "reward"
  (tmp_path / "run").rename(tmp_path / "moved")
  pit_jax.train(config, tmp_path / "moved", preferences=rows)
  with pytest.raises(ValueError, match="holds a run on other preferences"):
    pit_jax.train(config, tmp_path / "moved", preferences=pit_jax.Preferences(ROWS[:-1]))
