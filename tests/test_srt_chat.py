"""Chat models, a real one among them, learn to criticise themselves from an endpoint."""

from unittest import mock

import chat_teacher
import jax
import numpy as np
import published
import pytest
import tiny_run
from test_endpoint import KEY

from pit_jax.data import critiques
from pit_jax.feedback import endpoint, named
from pit_jax.recipes import srt
from pit_jax.stages import criticism

THINGS = ("tea", "rice", "soup", "bread", "jam", "a cake", "a salad", "an omelette", "a pie")
ASKED = ("How do I make {}?", "Why do people like {}?", "Describe {} in one sentence.")
PROMPTS = [asked.format(thing) for asked in ASKED for thing in THINGS]
ANSWER = "Here is what I would do first, and then a few words on why that is a good idea."


def forgets(question):
  """Returns whether the teacher forgets the score of replies to a question, as to every fifth."""
  return not chat_teacher.drawn(question, 5)


def reply(contents, _):
  """Returns a critique of a reply by rule."""
  question, draft, _ = contents
  score = "" if forgets(question) else f"Score: {3 + len(draft) % 5}\n"
  return f"**Weaknesses:** it is long\n{score}Changes: say less\nBetter answer: {question} Easily."


@pytest.fixture(params=chat_teacher.MODELS)
def model(request, tmp_path):
  """The directory of a chat model."""
  return chat_teacher.model(request.param, tmp_path)


def configured(folder, model, url):
  """Returns the configuration of a run of a chat model, whose teacher has an address."""
  rows = [{"prompt": prompt, "chosen": ANSWER, "rejected": "no"} for prompt in PROMPTS]
  return tiny_run.config(
    "srt", "smollm2_135m_smoke", model__base=str(model), model__lora__rank=0,
    data__source=chat_teacher.source(folder, rows), data__rows=len(PROMPTS),
    data__max_prompt_length=96, data__max_response_length=96, tuning__steps=2, dpo__steps=2,
    dpo__batch_size=4, feedback__writers__teacher__base_url=url, srt__most_failed=0.5,
    evaluation__reward_model=str(published.foreign(folder / "judge")),
  )  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_a_chat_model_is_taught_and_its_own_critiques_are_counted(model, tmp_path, monkeypatch):
  monkeypatch.setenv(endpoint.KEY, KEY)
  monkeypatch.delenv(endpoint.ADDRESS, raising=False)
  with chat_teacher.replying(reply) as server:
    config = configured(tmp_path, model, server.url)
    context = tiny_run.build(config, tmp_path / "run")
    # After two steps the model cannot yet criticise, so the teacher speaks for it in stage 2.
    teacher = lambda context, *_: named.build(context, "writers", "teacher")  # noqa: E731
    higher = mock.patch.object(srt.measures, "is_higher", lambda *_: True)
    with mock.patch.object(criticism, "of_model", teacher), higher:
      study = srt.RECIPE.train(context)
      asked = len(server.asked)
      again = srt.RECIPE.train(tiny_run.build(config, tmp_path / "run"))
    assert len(server.asked) == asked, "who was taught reads its critiques back"

  criticised = [row for part in study.taught.parts.values() for row in part]
  forgotten = sum(forgets(row.prompt) for row in criticised)
  assert study.taught.counts[critiques.NO_SCORE] == forgotten > 0
  assert study.taught.counts[critiques.REFINED] == len(criticised) - forgotten > 0
  useful = [row for part in study.taught.useful.values() for row in part]
  assert all(row.text == f"{row.prompt} Easily." for row in useful)
  jax.tree.map(np.testing.assert_array_equal, *(one.models["srt"].params for one in (study, again)))
  form = critiques.form_of(config.critique)
  critic = criticism.of_model(context, "srt", study.models["srt"].params, config.critique)
  found = criticism.refined(critic, form, [(x, ANSWER) for x in PROMPTS[:4]], context.key("x"), 0)
  known = {critiques.REFINED, critiques.UNCHANGED, *critiques.FAILURES}
  assert len(found) == 4 and {row.outcome for row in found} <= known
  assert all(row.text == (row.critique.answer if row.outcome == critiques.REFINED else ANSWER)
             for row in found)  # fmt: skip
