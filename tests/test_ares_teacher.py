"""What ARES asks a teacher behind an endpoint: all at once, and nothing twice."""

from unittest import mock

import chat_teacher
import jax
import pytest
import tiny_run
from test_ares_chat import reply
from test_endpoint import KEY, SETTINGS

from pit_jax.feedback import endpoint, estimates, writers
from pit_jax.recipes.ares import rewards

ANSWERS = {
  "Why do cats purr?": ["They are glad. They are calm.", "", "Nobody knows. They are glad."],
  "Why do we yawn?": ["We are tired.", "We are tired. So is the cat.", "It is warm."],
}


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
