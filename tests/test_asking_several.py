"""Several writers: endpoints are at work at the same time, and an error of one ends the call."""

import contextlib
import json
import threading
import time
from unittest import mock

import chat_teacher
import jax
import pytest
from test_endpoint import KEY, SETTINGS

from pit_jax.data import prompt_formats, units
from pit_jax.feedback import endpoint, transcripts, writers
from pit_jax.run import context as contexts
from pit_jax.stages import asking, feedback, revision, unit_criticism

POLICY = prompt_formats.Format("policy", plain="{prompt}")
QUESTIONS = [f"question {i}" for i in range(6)]


@pytest.fixture(autouse=True)
def key(monkeypatch):
  monkeypatch.setenv(endpoint.KEY, KEY)


def passes(folder, url, *names, **changes):
  """The same questions for a writer behind an endpoint of each name, which is its model's."""
  made = []
  for name in names:
    settings = endpoint.Settings(
      **SETTINGS | {"model": name, "timeout": 60.0} | changes, base_url=url
    )
    writer = writers.behind_endpoint(name, settings, folder / "paid.sqlite", key=name)
    request = writers.Request(POLICY.conversations(QUESTIONS), jax.random.key(0), 0.0)
    made.append((writer, {f"of_{name}": request}))
  return made


def context(folder):
  return mock.Mock(spec=contexts.Context, workdir=folder)


@contextlib.contextmanager
def meeting(*models, form="{} to {}"):
  """A server that replies to none of the models before each has asked: alone, each would wait."""
  came = {model: threading.Event() for model in models}

  def reply(contents, model):
    came[model].set()
    assert all(event.wait(20) for event in came.values())
    return form.format(model, contents[0])

  with chat_teacher.replying(reply) as server:
    yield server


def test_endpoints_are_at_work_at_the_same_time(tmp_path):
  with meeting("a", "b") as server:
    first, second = asking.together(context(tmp_path), passes(tmp_path, server.url, "a", "b"))
    assert not server.bodies, "nothing is wanted yet"
    texts = {name: written(f"of_{name}").texts for name, written in (("a", first), ("b", second))}
    asked = len(server.bodies)
    assert asked == 2 * len(QUESTIONS)
  assert texts == {name: [[f"{name} to {x}"] for x in QUESTIONS] for name in ("a", "b")}


def running(folder):
  return mock.Mock(spec=contexts.Context, workdir=folder, key=lambda name: jax.random.key(0))


def written(folder, name):
  return [json.loads(line) for line in (folder / "rows" / f"{name}.jsonl").open()]


def test_critics_are_and_each_about_the_drafts_of_all_folds(tmp_path):
  drafts = {fold: {"rows": [(f"q {fold}", "a draft")], "validation": [("why?", f"d {fold}")]}
            for fold in ("tuning", "preference")}  # fmt: skip
  form = units.Form("Place: {place}. Flaw: {flaw}", "No flaws.", request="List flaws: {form}")
  how = {"written_by": "sft", "temperature": 0.0, "most_failed": 0.0}
  with meeting("a", "b", form="Place: {}. Flaw: not about {}") as server:
    critics = [writer for writer, _ in passes(tmp_path, server.url, "a", "b")]
    listed = unit_criticism.listed(running(tmp_path), drafts, critics, form, **how)
    assert len(server.bodies) == 2 * 4
  for fold, of_both in listed.items():
    for critic, reviews in zip(("a", "b"), of_both, strict=True):
      assert reviews.made.rows == written(tmp_path, f"{fold}_critiques_of_{critic}")
      assert {row["criticised_by"] for row in reviews.made.rows} == {critic}
      assert [
        (row.prompt, row.draft, [(unit.place, unit.flaw) for unit in row.listed.units])
        for part in feedback.PARTS for row in reviews.parts[part]
      ] == [(*draft, [(critic, f"not about {draft[0]}")]) for part in feedback.PARTS
            for draft in drafts[fold][part]]  # fmt: skip


def test_revisers_are_and_each_about_both_sides_of_all_pairs(tmp_path):
  shown = prompt_formats.Format("improver", ("reference",), "{prompt} {reference}")
  pairs = {name: {"rows": [revision.Pair(f"q {name}", "good", "bad")], "validation": []}
           for name in ("x", "y")}  # fmt: skip
  how = {"samples": 1, "temperature": 0.0, "most_failed": 0.0}
  with meeting("a", "b") as server:
    revisers = [writer for writer, _ in passes(tmp_path, server.url, "a", "b")]
    revision.revisions(running(tmp_path), pairs, revisers, shown, **how)
  for name in pairs:
    (row,) = written(tmp_path, name)
    assert row["revised_by"] == ["a", "b"] and "failures" not in row
    assert row["revisions"]["chosen"] == [[f"a to q {name}"], [f"b to q {name}"]]


def test_writers_that_are_one_model_and_writers_of_this_run_are_asked_alone(tmp_path):
  threads = []

  def answer(asked, *rest):
    threads.append(threading.current_thread())
    return writers.Written([["mine"] for _ in asked])

  with chat_teacher.replying(lambda contents, model: "yes") as server:
    server.hold = 0.05
    one = passes(tmp_path, server.url, "a", concurrency=1)
    ((writer, _),) = passes(tmp_path, server.url, "a", concurrency=1)
    again = writers.Request(POLICY.conversations(["another"]), jax.random.key(0), 0.0)
    request = one[0][1]["of_a"]
    local = [(writers.Writer(name, answer), {name: request}) for name in ("x", "y")]
    everything = [local[0], *one, (writer, {"again": again}), local[1]]
    told = asking.together(context(tmp_path), everything)
    own = [written(name).texts for written, name in
           zip(told, ("x", "of_a", "again", "y"), strict=True)]  # fmt: skip
    assert server.most == 1
  assert own == [[["mine"]] * 6, [["yes"]] * 6, [["yes"]], [["mine"]] * 6]
  assert threads == [threading.main_thread()] * 2


def test_an_error_of_one_ends_the_call_and_what_the_other_had_is_kept(tmp_path):
  """The second one has no budget for its questions, which is found when the first is at work."""
  begun = threading.Event()

  def reply(contents, model):
    begun.set()
    time.sleep(0.3)
    return "yes"

  def late(*rest):
    assert begun.wait(20)
    raise ValueError("of the second")

  with chat_teacher.replying(reply) as server:
    both = passes(tmp_path, server.url, "a", "b", concurrency=1)
    both[1] = (writers.Writer("b", late, together=late, behind="b"), both[1][1])
    first, _ = asking.together(context(tmp_path), both)
    with pytest.raises(ValueError, match="of the second"):
      first("of_a")
    asked = len(server.bodies)
    assert 0 < asked < len(QUESTIONS)
    with transcripts.opened(tmp_path / "paid.sqlite") as file:
      rows = file.connection.execute("SELECT COUNT(*) FROM transcripts").fetchone()
    assert rows == (asked,), "what was under way is kept too"
    (again,) = asking.together(context(tmp_path), passes(tmp_path, server.url, "a"))
    assert again("of_a").texts == [["yes"]] * len(QUESTIONS)
    assert len(server.bodies) == len(QUESTIONS)
