"""A language model behind an endpoint: every pair ends judged or named as failed, and paid once."""

import json
import logging
import pathlib
import signal
import subprocess
import sys
import time

import judge_server
import numpy as np
import pytest

from pit_jax.feedback import endpoint, language_judge, patience, transcripts

ROOT = pathlib.Path(__file__).resolve().parent.parent
KEY = "sk-this-is-a-secret-of-the-tests"
SETTINGS = {
  "model": "some-model",
  "is_weighed": False,
  "temperature": 0.0,
  "max_tokens": 64,
  "requests_per_minute": 0,
  "budget_requests": 0,
  "budget_tokens": 0,
  "retries": 2,
  "wait": 0.01,
  "timeout": 1.0,
  "concurrency": 4,
}


@pytest.fixture(autouse=True)
def key(monkeypatch):
  monkeypatch.setenv(endpoint.KEY, KEY)
  monkeypatch.delenv(endpoint.ADDRESS, raising=False)


@pytest.fixture
def server():
  with judge_server.serving() as running:
    yield running


def judge_at(url, path, **changes):
  """Returns a judge with transcripts in a file, and its endpoint."""
  settings = endpoint.Settings(base_url=url, **SETTINGS | changes)
  verdict = "logprob" if settings.is_weighed else "json"
  asked = endpoint.Endpoint(settings, path, lambda reply: language_judge.failure(reply, verdict))
  decides = {"model": settings.model, "endpoint": url}
  replies = transcripts.remembering(asked.ask, path, decides)
  return language_judge.judge(replies, verdict=verdict), asked


def pairs(*behaviours):
  """Returns questions that make the server behave so, with answers of which the first is better."""
  questions = [f"Question {i} {{{how}}}" for i, how in enumerate(behaviours)]
  return questions, ["It is 7"] * len(questions), ["It is 3"] * len(questions)


# What a prompt meets → how the pair ends ("" is judged), and the requests of each of its prompts.
MISBEHAVIOUR = {
  "well": ("", 1),
  "429": ("", 2),
  "500": ("", 2),
  "503 500": ("", 3),
  "408": ("", 2),
  "409": ("", 2),
  "garbage": ("", 2),
  "empty": ("", 2),
  "half": ("", 2),
  "drop": ("", 2),
  "slow": ("", 2),
  "drop half": ("", 3),
  "429!": ("too many requests (429)", 3),
  "500!": ("server error (500)", 3),
  "garbage!": ("garbled reply", 3),
  "empty!": ("garbled reply", 3),
  "half!": ("no connection", 3),
  "drop!": ("no connection", 3),
  "slow!": ("timed out", 3),
  "400": ("refused (400)", 1),
  "403": ("refused (403)", 1),
  "prose!": ("no verdict in the reply", 1),
  "null!": ("no verdict in the reply", 1),
  "cut!": ("reply cut before its verdict", 1),
}


def test_every_pair_ends_judged_or_named_as_failed(server, tmp_path):
  judge, asked = judge_at(server.url, tmp_path / "t.sqlite", concurrency=16)
  questions, a, b = pairs(*MISBEHAVIOUR)
  said = judge.verdicts(questions, a, b)
  wanted = {i: failed for i, (failed, _) in enumerate(MISBEHAVIOUR.values()) if failed}
  assert said.failures == wanted
  for i, difference in enumerate(said.difference):
    assert np.isnan(difference) if i in wanted else difference == 1.0
    assert wanted.get(i, "the first is better: It is.") in said.reasons[i]
  compared = judge.count(said)
  assert (compared.n, compared.failed) == (len(questions) - len(wanted), len(wanted))
  assert (compared.win, compared.lose) == (100.0, 0.0)
  outcomes = judge.outcomes(said)
  assert [i for i, outcome in enumerate(outcomes) if outcome == "failed"] == list(wanted)
  made = [sum(question in prompt for prompt in server.asked) for question in questions]
  assert made == [2 * requests for _, requests in MISBEHAVIOUR.values()]
  assert asked.spent()[0] == len(server.asked)


def test_a_rerun_asks_only_what_had_no_reply(server, tmp_path):
  questions, a, b = pairs("well", "prose!", "500 500 500", "well")
  first = judge_at(server.url, tmp_path / "t.sqlite")[0].verdicts(questions, a, b)
  assert first.failures == {1: "no verdict in the reply", 2: "server error (500)"}
  count = len(server.asked)
  again = judge_at(server.url, tmp_path / "t.sqlite")[0].verdicts(questions, a, b)
  assert again.failures == {1: "no verdict in the reply"}
  assert all("Question 2" in prompt for prompt in server.asked[count:])
  assert len(server.asked) == count + 2


def test_a_finished_evaluation_needs_no_endpoint(tmp_path):
  questions, a, b = pairs("well", "prose!", "500")
  with judge_server.serving() as server:
    url = server.url
    first = judge_at(url, tmp_path / "t.sqlite")[0].verdicts(questions, a, b)
  again = judge_at(url, tmp_path / "t.sqlite")[0].verdicts(questions, a, b)
  np.testing.assert_array_equal(again.difference, first.difference)
  assert (again.reasons, again.failures) == (first.reasons, first.failures)
  other, _ = judge_at(url, tmp_path / "other.sqlite", wait=0.0)
  assert other.verdicts(questions, a, b).failures == dict.fromkeys(range(3), "no connection")


KILLED = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
import test_endpoint
judge, _ = test_endpoint.judge_at({url!r}, {path!r}, concurrency=2)
judge.verdicts(*test_endpoint.pairs(*["well"] * 20))
"""


def test_a_killed_evaluation_goes_on(server, tmp_path):
  path, tests = str(tmp_path / "t.sqlite"), str(ROOT / "tests")
  script = KILLED.format(root=str(ROOT), tests=tests, url=server.url, path=path)
  begun = subprocess.Popen([sys.executable, "-c", script])
  server.hold = 0.05
  server.on_request = lambda count: begun.kill() if count == 15 else None
  assert begun.wait(timeout=120) == -signal.SIGKILL
  server.on_request = lambda count: None
  before = len(server.asked)
  judge, _ = judge_at(server.url, path)
  assert judge.compare(*pairs(*["well"] * 20)).win == 100.0
  # Of the 40 prompts, all but the last few before the kill were kept.
  assert 25 <= len(server.asked) - before <= 25 + 8


def test_a_budget_of_requests_ends_the_asking_and_a_larger_one_goes_on(server, tmp_path):
  questions, a, b = pairs("well", "500", *["well"] * 8)
  judge, asked = judge_at(server.url, tmp_path / "t.sqlite", budget_requests=7)
  said = judge.verdicts(questions, a, b)
  assert len(server.asked) == asked.spent()[0] == 7
  assert set(said.failures.values()) == {"budget used up"} and 7 <= len(said.failures) < 10
  assert any("7 requests" in reason and "budget_requests is 7" in reason for reason in said.reasons)
  same, _ = judge_at(server.url, tmp_path / "t.sqlite", budget_requests=7)
  assert same.compare(questions, a, b).failed == len(said.failures)
  assert len(server.asked) == 7, "the budget is one of all commands"
  more, asked = judge_at(server.url, tmp_path / "t.sqlite", budget_requests=100)
  compared = more.compare(questions, a, b)
  assert (compared.n, compared.failed) == (10, 0)
  assert len(server.asked) == asked.spent()[0] == 20 + 2  # both orders of one met a 500


@pytest.mark.parametrize("usage", [100, 0])
def test_a_budget_of_tokens_ends_the_asking(tmp_path, usage):
  with judge_server.serving(usage=usage) as server:
    judge, asked = judge_at(server.url, tmp_path / "t.sqlite", budget_tokens=1000, concurrency=2)
    said = judge.verdicts(*pairs(*["well"] * 20))
  assert set(said.failures.values()) == {"budget used up"}
  reply = json.dumps({"reason": "It is.", "verdict": "A"})
  each = usage or len((server.asked[0] + reply).encode()) / 4  # counted where nothing is said
  needed = -(-1000 // each)
  assert needed <= len(server.asked) <= needed + 2  # one more was under way
  assert asked.spent()[1] == pytest.approx(len(server.asked) * each, rel=0.02)


def test_requests_begin_at_the_rate_that_is_allowed(server, tmp_path):
  judge, _ = judge_at(server.url, tmp_path / "t.sqlite", requests_per_minute=1200)
  before = time.monotonic()
  judge.verdicts(*pairs(*["well"] * 6))
  times = np.sort(server.times) - before
  # A busy machine may bring a request later than its turn, but none before it.
  assert len(times) == 12 and np.all(times >= 0.05 * np.arange(12))


def test_so_many_requests_are_under_way_and_no_more(server, tmp_path):
  server.hold = 0.05
  judge, _ = judge_at(server.url, tmp_path / "t.sqlite", concurrency=3)
  judge.verdicts(*pairs(*["well"] * 6))
  assert 2 <= server.most <= 3


def test_an_endpoint_that_names_a_time_is_given_it(server, tmp_path):
  judge, _ = judge_at(server.url, tmp_path / "t.sqlite")
  judge.verdicts(*pairs("429"))
  assert np.sort(server.times)[-1] - np.sort(server.times)[0] >= 0.3


def test_pauses_double_up_to_the_longest():
  error = ValueError("without a time")
  pauses = [[patience.pause(error, attempt, 1.0) for _ in range(50)] for attempt in range(8)]
  for attempt, found in enumerate(pauses):
    assert max(found) <= min(2**attempt, patience.LONGEST_WAIT)
    assert min(found) >= min(2**attempt / 2, patience.LONGEST_WAIT)
  assert len(set(pauses[2])) > 1, "requests that failed together come back apart"


@pytest.mark.parametrize(
  ("how", "failure"),
  [
    ("401!", "key refused (401)"),
    ("404!", "no such model or address (404)"),
    ("402!", "not paid for (402)"),
    ("broke!", "too many requests (429)"),
  ],
)
def test_what_will_not_pass_ends_the_asking(server, tmp_path, how, failure):
  judge, _ = judge_at(server.url, tmp_path / "t.sqlite")
  said = judge.verdicts(*pairs(*[how] * 30))
  assert said.failures == dict.fromkeys(range(30), failure)
  assert len(server.asked) <= SETTINGS["concurrency"]


def test_an_endpoint_that_never_answers_is_given_up(server, tmp_path, monkeypatch):
  monkeypatch.setattr(patience, "PATIENCE", 5)
  judge, _ = judge_at(server.url, tmp_path / "t.sqlite")
  said = judge.verdicts(*pairs(*["500!"] * 30))
  assert len(said.failures) == 30
  assert set(said.failures.values()) == {"server error (500)", "endpoint given up"}
  assert len(server.asked) <= 3 * (5 + SETTINGS["concurrency"])
  assert any("5 prompts in a row" in reason for reason in said.reasons)


@pytest.mark.parametrize("status", ["400", "403", "422"])
def test_an_endpoint_that_refuses_every_request_is_given_up(server, tmp_path, monkeypatch, status):
  monkeypatch.setattr(patience, "PATIENCE", 5)
  judge, asked = judge_at(server.url, tmp_path / "t.sqlite")
  said = judge.verdicts(*pairs(*[f"{status}!"] * 30))
  assert set(said.failures.values()) == {f"refused ({status})", "endpoint given up"}
  assert len(said.failures) == 30 and len(server.asked) < 5 + SETTINGS["concurrency"]
  assert asked.spent()[0] == len(server.asked), "nobody pays for the rest"


def test_a_reply_between_refusals_shows_that_the_endpoint_works(server, tmp_path, monkeypatch):
  monkeypatch.setattr(patience, "PATIENCE", 3)  # a question is asked in both orders
  judge, _ = judge_at(server.url, tmp_path / "t.sqlite", concurrency=1)
  said = judge.verdicts(*pairs(*["well", "400!"] * 10))
  assert said.failures == dict.fromkeys(range(1, 20, 2), "refused (400)")


def test_the_key_is_sent_and_nowhere_written(server, tmp_path, caplog):
  caplog.set_level(logging.DEBUG)
  judge, asked = judge_at(server.url, tmp_path / "t.sqlite")
  said = judge.verdicts(*pairs("400!", "echo!", "500!", "401!"))
  assert set(server.keys) == {f"Bearer {KEY}"}
  written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
  assert b"Bearer" in written, "the server said it"
  for text in (
    repr(said),
    caplog.text,
    repr(asked.__dict__["_settings"]),
    written.decode("latin-1"),
  ):
    assert KEY not in text and KEY[:12] not in text


def test_probabilities_of_the_first_token_are_asked_for(server, tmp_path):
  judge, _ = judge_at(server.url, tmp_path / "t.sqlite", is_weighed=True)
  said = judge.verdicts(*pairs("well", "empty"))
  assert server.bodies[0]["logprobs"] is True and server.bodies[0]["top_logprobs"] == 20
  np.testing.assert_allclose(said.difference, 0, atol=1e-12)  # it likes what is shown first
  share = np.exp(-0.2) / (np.exp(-0.2) + np.exp(-1.8))
  assert f"A {share:.0%}, B {1 - share:.0%}, C 0%" in said.reasons[0]


def test_the_request_is_what_the_settings_say(server, tmp_path):
  judge_at(server.url, tmp_path / "t.sqlite", temperature=0.7)[0].verdicts(*pairs("well"))
  body = server.bodies[-1]
  assert [message["role"] for message in body.pop("messages")] == ["user"]
  assert body == {"model": "some-model", "temperature": 0.7, "max_tokens": 64}


def test_without_a_key_or_the_client_it_is_said_before_anything_is_asked(monkeypatch):
  monkeypatch.delenv(endpoint.KEY)
  endpoint.check("http://localhost:1/v1")
  with pytest.raises(ValueError, match=r"no OPENAI_API_KEY.*evaluation\.language_judge\.base_url"):
    endpoint.check("")
  monkeypatch.setitem(sys.modules, "openai", None)
  with pytest.raises(ValueError, match=r"pip install 'pit_jax\[judge\]'"):
    endpoint.check("http://localhost:1/v1")
