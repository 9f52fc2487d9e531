"""What replies of endpoints hold: contents in parts, reasoning, probabilities, times to wait."""

import json
import time

import numpy as np
import pytest
import test_endpoint_dialects as dialects

from pit_jax.feedback import completions, language_judge, patience, transcripts

GOOD = {"reason": "It is.", "verdict": "A"}
THOUGHT = 'Is it {"verdict": "B"}? The second one, or rather the first.'


@pytest.mark.parametrize(
  ("content", "expected"),
  [
    (f"<think>\n{THOUGHT}\n</think>\n\n{json.dumps(GOOD)}", "A"),
    (f"{THOUGHT}\n</think>\n{json.dumps(GOOD)}", "A"),
    (f"Well. <thinking>{THOUGHT}</thinking>{json.dumps(GOOD)}", "A"),
    (f"[THINK]{THOUGHT}[/THINK]{json.dumps(GOOD)}", "A"),
    (
      f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant<|channel|>final"
      f"<|message|>{json.dumps(GOOD)}",
      "A",
    ),
    (json.dumps({"reason": "A ends in </think>, B in <think>", "verdict": "A"}), "A"),
    (f"<think>{THOUGHT}", None),
    (f"<think>{THOUGHT}</think>", None),
  ],
)
def test_reasoning_before_a_verdict_is_no_verdict(content, expected):
  opinion = language_judge.read_json(transcripts.Reply(text=content))
  assert opinion.preference == 1.0 if expected else np.isnan(opinion.preference)


PARTS = {
  "parts": {"content": [{"type": "text", "text": text} for text in ('{"verdict": ', '"A"}')]},
  "strings": {"content": [json.dumps(GOOD)]},
  "thinking": {
    "content": [
      {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]},
      {"type": "text", "text": json.dumps(GOOD)},
    ]
  },
  "reasoning beside": {"content": json.dumps(GOOD), "reasoning_content": THOUGHT},
}


@pytest.mark.parametrize("message", PARTS.values(), ids=PARTS)
def test_contents_as_parts_are_text_and_reasoning_is_none(message, tmp_path):
  def behave(handler, body):
    dialects.replying(handler, body, **message)

  with dialects.speaking(behave) as server:
    said, _ = dialects.verdicts(server, tmp_path, count=1)
  assert said.reasons[0].count("the first is better") == 2, "and so the two orders disagree"


def test_reasoning_without_a_reply_is_no_verdict(tmp_path):
  def behave(handler, body):
    dialects.replying(handler, body, content=None, reasoning_content=json.dumps(GOOD))

  with dialects.speaking(behave) as server:
    said, _ = dialects.verdicts(server, tmp_path, count=1)
  assert said.failures == {0: "no verdict in the reply"}


def test_probabilities_are_those_of_the_letter_after_reasoning():
  tops = {"B": -0.1, "A": -2.5}
  tokens = ["<think>", " A", " wins", "</think>", "\n\n", "B"]
  entries = [
    {
      "token": token,
      "logprob": -0.1,
      "top_logprobs": [{"token": t, "logprob": p} for t, p in tops.items()]
      if token == "B"
      else [{"token": token, "logprob": -0.1}],
    }
    for token in tokens
  ]
  message = {"content": "".join(tokens)}
  body = {"choices": [{"message": message, "logprobs": {"content": entries}}]}
  reply, _ = completions.read(json.dumps(body))
  assert reply.logprobs == tops


def test_the_time_that_an_endpoint_names_counts_in_each_form():
  wait = completions.asked_wait
  assert wait({"retry-after-ms": "250"}) == 0.25
  assert wait({"retry-after-ms": "1500", "retry-after": "9"}) == 1.5, "the finer one"
  assert wait({"retry-after": "2.5"}) == 2.5 and wait({"retry-after": "-1"}) == 0
  assert wait({"retry-after-ms": "soon", "retry-after": "3"}) == 3
  then = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 30))
  assert 27 < wait({"retry-after": then}) <= 30
  assert wait({}) == wait({"retry-after": "later"}) == wait({"retry-after": "nan"}) == 0

  class Busy(Exception):
    class response:
      headers = {"retry-after": "120"}

  assert patience.pause(Busy(), 0, 1.0) == 120, "longer than our own waits"
  Busy.response.headers = {"retry-after": "1e9"}
  assert patience.pause(Busy(), 0, 1.0) == patience.LONGEST_ASKED
