"""What ARES asks a teacher: scores of all systems at once, and corrections that are no copies."""

import collections
import dataclasses
import json
from unittest import mock

import chat_teacher
import jax
import pytest
import tiny_run
from test_ares_chat import reply
from test_endpoint import KEY, SETTINGS

from pit_jax.data import critiques
from pit_jax.feedback import endpoint, estimates, named, writers
from pit_jax.recipes.ares import corrections, rewards
from pit_jax.tasks import synthetic

ANSWERS = {
  "Why do cats purr?": ["They are glad. They are calm.", "", "Nobody knows. They are glad."],
  "Why do we yawn?": ["We are tired.", "We are tired. So is the cat.", "It is warm."],
}
# What the corrector does in turn, and as what it is counted; None: it is of use.
KINDS = (*[critiques.COPIED_ANSWER] * 5, critiques.NO_ANSWER, None, None)


@pytest.fixture(scope="module")
def context(tmp_path_factory):
  return tiny_run.build(tiny_run.config("ares", rl__steps=4), tmp_path_factory.mktemp("ares"))


@pytest.fixture
def server(monkeypatch):
  monkeypatch.setenv(endpoint.KEY, KEY)
  with chat_teacher.replying(reply) as running:
    yield running


def test_the_sentences_of_several_systems_are_scored_in_one_pass(context, server, tmp_path):
  """What is read and kept is what asking about each alone finds."""
  settings = endpoint.Settings(base_url=server.url, **SETTINGS)
  several = [rewards.Answers([*ANSWERS], [texts.split(". ") if texts else [] for texts in column])
             for column in zip(*ANSWERS.values(), strict=True)]  # fmt: skip

  def asked(path, *systems):
    teacher = writers.behind_endpoint("teacher", settings, tmp_path / path)
    return rewards.readings(context, teacher, systems, jax.random.key(0))

  with mock.patch.object(estimates, "say", wraps=estimates.say) as said:
    told = asked("once.sqlite", *several)
    assert said.call_count == 1 and len(server.bodies) == 5
    assert told == [asked("alone.sqlite", one)[0] for one in several]
    assert said.call_count == 1 + len(several)
    server.bodies.clear()
    assert told == [asked("once.sqlite", one)[0] for one in several] and not server.bodies
  assert [reading.failure for one in told for reading in one].count("silent") >= 1


def test_a_copy_of_what_was_shown_or_asked_is_no_correction(context, tmp_path):
  """An answer that the corrector leaves as it is may be right."""
  c = context.config.ares
  own = dataclasses.replace(context, workdir=tmp_path)
  rest = c.correct_request.split("\n")[1]
  told = {}

  def corrector(turns):
    (turn,) = turns
    asked, kind = turn["content"], len(told) % len(KINDS)
    question, _, *lines = asked.split("\n")
    kept = " ".join(line.split(". ", 1)[1] for line in lines)
    replies = (asked, question, rest, f"{asked} so: it is Elm.", "\n".join(lines), "", kept,
               f"Rather: {kept}")  # fmt: skip
    told[asked] = (kind, replies[kind])
    return replies[kind]

  answering = writers.Writer("corrector", lambda asked, *rest: writers.Written(
    [[corrector([turn._asdict() for turn in one.turns])] for one in asked]
  ))  # fmt: skip
  student = writers.grammar("student", synthetic.writer_named("hasty", first=0.3), seed=1)
  with (
    mock.patch.object(writers, "model", lambda *rest: student),
    mock.patch.object(named, "build", lambda *rest: answering),
    mock.patch.object(corrections.feedback, "check_share") as checked,
  ):
    found = corrections.of(own, "ares", {})
  learnt = [row.chosen for part in (found.fold.rows, found.fold.validation) for row in part]
  rows = [json.loads(line) for line in (tmp_path / "rows/ares_corrections.jsonl").open()]
  assert [row.get("failure") for row in rows] == [KINDS[told[row["prompt"]][0]] for row in rows]
  kept = [told[row["prompt"]][1] for row in rows if "failure" not in row]
  assert learnt == kept and len(kept) > 10
  counts = collections.Counter(row["failure"] for row in rows if "failure" in row)
  assert found.failures == counts and found.counts["failed"] == sum(counts.values())
  assert checked.call_args.args[3] == counts
  unchanged = sum(told[row["prompt"]][0] == KINDS.index(None) for row in rows)
  assert found.counts["changed"] == len(kept) - unchanged > 0
