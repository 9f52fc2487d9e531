"""Several writers: endpoints are at work at the same time, and an error of one ends the call."""

import contextlib
import threading
import time
from unittest import mock

import chat_teacher
import jax
import pytest
from test_endpoint import KEY, SETTINGS

from pit_jax.data import prompt_formats
from pit_jax.feedback import endpoint, transcripts, writers
from pit_jax.run import context as contexts
from pit_jax.stages import asking

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
def meeting(*models):
  """A server that replies to none of the models before each has asked: alone, each would wait."""
  came = {model: threading.Event() for model in models}

  def reply(contents, model):
    came[model].set()
    assert all(event.wait(20) for event in came.values())
    return f"{model} to {contents[0]}"

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
