"""Endpoints that are OpenAI-compatible in ways of their own: what they refuse, ignore, and add."""

import contextlib
import json
import threading
import time

import judge_server
import pytest
import test_endpoint

from pit_jax.feedback import completions


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
  monkeypatch.delenv(test_endpoint.endpoint.KEY, raising=False)
  monkeypatch.delenv(test_endpoint.endpoint.ADDRESS, raising=False)


@contextlib.contextmanager
def speaking(behave):
  """Serves with `behave(handler, body)` in the place of the judge's own behaviour."""
  with judge_server.serving() as server:

    class Handler(judge_server.Handler):
      def behave(self, how, body):
        behave(self, body)

    server.RequestHandlerClass = Handler
    yield server


def verdicts(server, tmp_path, count=3, **settings):
  """Returns what is said of pairs whose first answer is better, and the endpoint."""
  judge, asked = test_endpoint.judge_at(server.url, tmp_path / "t.sqlite", **settings)
  return judge.verdicts(*test_endpoint.pairs(*["well"] * count)), asked


def replying(handler, body, **message):
  """Sends the judge's completion with another message."""
  completion = judge_server.completion(body, handler.server)
  completion["choices"][0]["message"] |= message
  handler.send(200, json.dumps(completion))


# What endpoints refuse

# The bodies of OpenAI, of servers that check with pydantic (as vLLM did), and of plain words.
REFUSALS = {
  "openai": lambda name: {
    "error": {
      "message": f"Unsupported parameter: '{name}' is not supported with this model. Use "
      "'max_completion_tokens' instead."
      if name == "max_tokens"
      else f"Unsupported value: '{name}' does not support 0 with this model.",
      "type": "invalid_request_error",
      "param": name,
      "code": "unsupported_parameter",
    }
  },
  "pydantic": lambda name: {
    "detail": [{"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs"}]
  },
  "words": lambda name: {"error": {"message": f"{name} is not supported here"}},
}


def refusing(names, form, status):
  def behave(handler, body):
    refused = [name for name in names if name in body]
    if refused:
      handler.send(status, json.dumps(REFUSALS[form](refused[0])))
    else:
      handler.send(200, json.dumps(judge_server.completion(body, handler.server)))

  return behave


@pytest.mark.parametrize(("form", "status"), [("openai", 400), ("pydantic", 422), ("words", 400)])
def test_a_refused_parameter_is_renamed_or_left_out_and_that_is_remembered(
  form, status, tmp_path, caplog
):
  with speaking(refusing(["max_tokens", "temperature"], form, status)) as server:
    said, asked = verdicts(server, tmp_path, count=6, concurrency=1)
  assert said.failures == {} and (said.difference == 1.0).all()
  assert len(server.bodies) == 12 + 2, "two refusals in all, and none again"
  last = server.bodies[-1]
  assert last["max_completion_tokens"] == 64 and not {"max_tokens", "temperature"} & set(last)
  assert set(asked.changes) == {"max_tokens as max_completion_tokens", "without temperature"}
  assert caplog.text.count("refuses what was asked for") == 1, "said once"
  assert asked.spent()[0] == 14, "each is paid for"


def test_a_server_with_the_older_name_alone_is_asked_by_it():
  newer = completions.form(0.0, 64, is_weighed=False, is_openai=True)
  assert newer.parameters == {"temperature": 0.0, "max_completion_tokens": 64}

  class Refusal(Exception):
    status_code = 400

  error = Refusal("max_completion_tokens: Extra inputs are not permitted")
  older = completions.adapted(newer, error)
  assert older.parameters == {"temperature": 0.0, "max_tokens": 64}
  assert completions.adapted(older, Refusal("max_tokens is unknown")) is None, "never without one"


@pytest.mark.parametrize("most", [5, 0])
def test_fewer_log_probabilities_are_asked_for_or_none(most, tmp_path, caplog):
  def behave(handler, body):
    if body.get("top_logprobs", 0) > most or (body.get("logprobs") and not most):
      name = "top_logprobs" if most else "logprobs"
      handler.send(400, json.dumps(REFUSALS["words"](name)))
    else:
      handler.send(200, json.dumps(judge_server.completion(body, handler.server)))

  with speaking(behave) as server:
    said, asked = verdicts(server, tmp_path, 30, is_weighed=True, concurrency=1)
  if most:
    assert said.failures == {} and server.bodies[-1]["top_logprobs"] == 5
  else:
    assert set(said.failures.values()) == {"no log-probabilities in the reply"}
    assert len(server.bodies) == 2, "with them, and without"
    assert "verdict='json'" in said.reasons[29] and "without logprobs" in said.reasons[29]


def test_a_refusal_that_names_a_parameter_by_accident_changes_nothing_for_others(tmp_path):
  def behave(handler, body):
    if "Question 0 " in body["messages"][0]["content"]:
      message = "too long: temperature and max_tokens as they may be"
      handler.send(400, json.dumps({"error": {"message": message}}))
    else:
      handler.send(200, json.dumps(judge_server.completion(body, handler.server)))

  with speaking(behave) as server:
    said, asked = verdicts(server, tmp_path, concurrency=1)
  assert said.failures == {0: "refused (400)"} and asked.changes == ()
  assert server.bodies[-1]["temperature"] == 0 and server.bodies[-1]["max_tokens"] == 64


# What endpoints ignore


def transformers_serve(handler, body, samples=False):
  """Answers as `transformers serve` of 5.24 does (cli/serving/chat_completion.py, utils.py).

  Fields that OpenAI does not have are 422; logprobs and top_logprobs are accepted and unused; the
  temperature is set in a generation config whose do_sample is the model's own, so that a model
  which does not sample by itself goes on taking the likeliest tokens; nothing that is None is sent.
  """
  unexpected = set(body) - {
    *("model", "messages", "temperature", "max_tokens", "max_completion_tokens"),
    *("logprobs", "top_logprobs", "response_format", "seed", "stop"),
  }
  if unexpected:
    detail = f"Unexpected fields in the request: {unexpected}"
    handler.send(422, json.dumps({"detail": detail}))
    return
  if "drawn at random" in body["messages"][0]["content"]:
    content = f"qwertz{len(handler.server.bodies) if samples else ''}"
    message = {"role": "assistant", "content": content}
    said = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
  else:
    said = judge_server.completion({**body, "logprobs": False}, handler.server)
  handler.send(200, json.dumps(said))


def test_log_probabilities_that_never_come_are_said_at_once(tmp_path, caplog):
  with speaking(transformers_serve) as server:
    said, _ = verdicts(server, tmp_path, 40, is_weighed=True)
  assert said.failures == dict.fromkeys(range(40), "no log-probabilities in the reply")
  assert len(server.bodies) <= test_endpoint.SETTINGS["concurrency"]
  assert "verdict='json'" in said.reasons[-1] and "verdict='json'" in caplog.text


@pytest.mark.parametrize("samples", [False, True])
def test_a_temperature_without_effect_is_said_at_once(samples, tmp_path, caplog):
  def behave(handler, body):
    transformers_serve(handler, body, samples)

  with speaking(behave) as server:
    said, asked = verdicts(server, tmp_path, temperature=0.7, concurrency=1)
    assert said.failures == {} and len(server.bodies) == 3 + 6
    verdicts(server, tmp_path, temperature=0.7)
    assert len(server.bodies) == 9, "nothing new is asked, and so nothing is probed"
  assert ("ignore it" in caplog.text) is not samples
  assert asked.changes == (() if samples else ("temperature=0.7 without effect",))


def test_replies_without_a_text_say_nothing_of_the_temperature(tmp_path, caplog):
  def behave(handler, body):
    if "drawn at random" in body["messages"][0]["content"]:
      message = {"role": "assistant", "content": None}
      said = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    else:
      said = judge_server.completion({**body, "logprobs": False}, handler.server)
    handler.send(200, json.dumps(said))

  with speaking(behave) as server:
    said, asked = verdicts(server, tmp_path, temperature=0.7, concurrency=1)
  assert said.failures == {} and asked.changes == () and "ignore it" not in caplog.text


# How long it is borne with


def test_what_fails_alike_for_the_first_ten_prompts_ends_the_asking(tmp_path, caplog):
  def behave(handler, body):
    handler.send(400, json.dumps({"error": {"message": "the quota of Tuesday is not for you"}}))

  with speaking(behave) as server:
    said, _ = verdicts(server, tmp_path, 60, concurrency=2)
  assert 10 <= len(server.bodies) <= 12
  assert said.failures == dict.fromkeys(range(60), "refused (400)")
  assert "the first 10 prompts fared alike" in said.reasons[59]
  assert "the quota of Tuesday is not for you" in said.reasons[59]
  assert "the quota of Tuesday" in caplog.text, "and said when it happens"


@pytest.mark.parametrize("first", [None, "well"])
def test_replies_without_any_verdict_end_it_too_unless_there_was_one(tmp_path, first):
  def behave(handler, body):
    if first and len(handler.server.bodies) == 1:
      replying(handler, body)
    else:
      replying(handler, body, content="They are both fine.")

  with speaking(behave) as server:
    said, _ = verdicts(server, tmp_path, 20, concurrency=1)
  assert len(server.bodies) == (40 if first else 10)
  assert set(said.failures.values()) == {"no verdict in the reply"}


def test_an_error_with_status_200_is_told_in_its_own_words(tmp_path):
  def behave(handler, body):
    handler.send(200, json.dumps({"error": {"message": "provider is out", "code": 502}}))

  with speaking(behave) as server:
    said, _ = verdicts(server, tmp_path, 1, retries=0)
  assert said.failures == {0: "garbled reply"} and "provider is out" in said.reasons[0]


def test_milliseconds_are_waited_for(tmp_path):
  lock, times = threading.Lock(), []

  def behave(handler, body):
    with lock:
      times.append(time.monotonic())
    if len(times) == 1:
      handler.send(429, "{}", **{"Retry-After-Ms": "400"})
    else:
      replying(handler, body)

  with speaking(behave) as server:
    said, _ = verdicts(server, tmp_path, 1, concurrency=1)
  assert said.failures == {} and times[1] - times[0] >= 0.4
