"""An instructor behind an endpoint: all arms of a round ask in one pass, and none pays twice."""

import json
import multiprocessing
import random
import re
import signal
from unittest import mock

import instructors_run
import judge_server
import ml_collections
import pytest
import tiny_run

from pit_jax import progress
from pit_jax.feedback import endpoint, exercises
from pit_jax.recipes import instructors
from pit_jax.tasks import exercises as embedded

ARMS = instructors_run.ARMS
UNDER_WAY = 3  # requests at a time


def asked_of(body):
  return json.dumps(body["messages"])


def taught(body, server):
  """The embedded task's instructor, a function of what it is asked."""
  said = body["messages"][-1]["content"]
  one = exercises.read(said)
  given = (one.question, one.answer, one.solved, one.count, 1.0)
  text = exercises.write(embedded.similar(*given, random.Random(said)))
  choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
  about = {"id": "x", "object": "chat.completion", "created": 0, "model": body["model"]}
  return about | {"choices": [choice], "usage": {"total_tokens": 100}}


def config(url):
  made = instructors_run.config(
    instructors__instructor="llm", instructors__rounds=1, instructors__writing_temperature=0.0
  ).unlock()
  llm = {"kind": "endpoint", "model": "m", "base_url": url, "concurrency": UNDER_WAY}
  made.feedback.writers.llm = ml_collections.ConfigDict(llm)
  return made.lock()


def train(url, workdir):
  """Trains all; the other student answers like the target, so that two arms ask alike."""
  whole = instructors._verified

  def verified(context, name, student):
    return whole(context, "target" if name == "le_shuffled" else name, student)

  with instructors_run.writing(), mock.patch.object(instructors, "_verified", verified):
    instructors.RECIPE.train(tiny_run.build(config(url), workdir))


@pytest.mark.slow
def test_arms_of_a_round_ask_in_one_pass_and_a_kill_within_it_pays_for_nothing_twice(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.setenv(endpoint.KEY, "none")
  with judge_server.serving() as server, mock.patch.object(judge_server, "completion", taught):
    process = multiprocessing.get_context("spawn").Process(
      target=train, args=(server.url, tmp_path)
    )
    server.on_request = lambda count: count == 60 and process.kill()
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    rows = {path.name for path in tmp_path.glob("rows/*")}
    assert not any("_replies" in name for name in rows), "no arm begins before all have asked"
    assert not [*tmp_path.glob("checkpoints/le_1")]
    server.on_request = lambda count: None
    capsys.readouterr()
    train(server.url, tmp_path)

  bodies = [asked_of(body) for body in server.bodies]
  answered = {
    arm: [json.dumps([{"role": turn["role"], "content": turn["content"]} for turn in row["prompt"]])
          for row in instructors_run.made(tmp_path, f"{arm}_1_replies")]
    for arm in ARMS
  }  # fmt: skip
  wanted = {text for texts in answered.values() for text in texts}
  assert {*bodies} == wanted and len(bodies) - len(wanted) <= UNDER_WAY
  assert len(wanted) < sum(map(len, answered.values())), "arms that ask the same pay once"
  lines = [line for line in capsys.readouterr().out.splitlines() if " requests" in line]
  (line,) = lines
  new, kept = map(int, re.match(r"llm \(m\): (\d+) requests, (\d+) kept, ~", line).groups())
  assert new + kept == len(wanted) and 60 - UNDER_WAY <= kept <= 60
  assert len(line) <= progress.WIDTH
