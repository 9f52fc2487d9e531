"""Chat models, a real one among them, learn from an endpoint's scores of their sentences."""

import math
import re
from unittest import mock

import chat_teacher
import jax
import numpy as np
import published
import pytest
import tiny_run
from test_endpoint import KEY

from pit_jax.feedback import endpoint, sentence_scores
from pit_jax.recipes import ares
from pit_jax.recipes.ares import rewards
from pit_jax.tasks import sentences

PROMPTS = (
  "How do I keep basil fresh for a week?", "What should I pack for a rainy weekend?",
  "Why does bread go stale?", "How can I fall asleep faster?", "How do I clean a wool scarf?",
  "What is a good first houseplant?", "How do I say no to a friend politely?",
  "Why do leaves turn red?", "How do I boil an egg so that the yolk stays soft?",
  "What can I do with old jars?", "How do I start to run in the morning?",
  "Why is the sea salty?", "How do I stop a door from squeaking?",
  "What helps against hiccups?", "How do I write a short note of thanks?",
  "How do I choose a ripe melon?", "Why do cats purr?", "How do I fix a flat bicycle tyre?",
  "What should I ask at a job interview?", "How do I remember names?",
  "How often should I water a cactus?", "Why do onions make me cry?",
  "How do I get wax off a table?", "What makes a good breakfast?",
  "How do I thread a needle?", "What is a polite way to leave a party early?",
  "How can I save water at home?", "Why does my tea taste bitter?", "How do I fold a map?",
  "What should a first aid box hold?", "How do I cheer up a friend?",
  "How do I dry wet shoes?", "What can I cook from rice and peas?",
  "How do I learn ten words a day?", "Why do we yawn?", "How do I hang a picture straight?",
)  # fmt: skip
AUTHOR = "Do this first. Then wait for an hour, and look again."
LONGER = "Keep it dry.\nKeep it cool, too! "
# How replies about scores are broken, and as what each is counted.
BROKEN = {
  "It is a fine answer.": sentence_scores.UNREADABLE,
  "1: 0.5\n1: 0.5": sentence_scores.COUNT,
  None: sentence_scores.SILENT,
}
SCORES, CORRECTIONS = "Score every sentence", "Correct this answer"


def worth(sentence):
  """Returns the score of a sentence, which is of its words alone."""
  return chat_teacher.drawn(sentence, 11) / 10


def fate(lines):
  """Returns the broken reply about these sentences, which one in four has; "": it is not."""
  side = chat_teacher.drawn("\n".join(lines), 12)
  return [*BROKEN][side] if side < len(BROKEN) else ""


def listed(asked):
  """Returns the numbered sentences at the end of a request."""
  lines = asked.split("\n")
  begin = max(place for place, line in enumerate(lines) if line.startswith("1. "))
  return [re.sub(r"^\d+\. ", "", line) for line in lines[begin:]]


def reply(contents, _):
  """Returns what the teacher says to a request for scores, for a correction, or to a question."""
  asked = contents[-1]
  if SCORES in asked:
    lines = listed(asked)
    marks = [f"{number}: {worth(line)}" for number, line in enumerate(lines, start=1)]
    return "\n".join(marks) if fate(lines) == "" else fate(lines)
  if CORRECTIONS in asked:  # none of every sixth
    return f"Rather so: {listed(asked)[0]}" if chat_teacher.drawn(asked, 6) else None
  return AUTHOR


@pytest.fixture(params=chat_teacher.MODELS)
def name(request):
  return request.param


def configured(name, folder, url):
  rows = [{"prompt": prompt, "chosen": "yes", "rejected": "no"} for prompt in PROMPTS]
  return tiny_run.config(
    "ares", "smollm2_135m_smoke", model__base=str(chat_teacher.model(name, folder)),
    model__lora__rank=4, data__source=chat_teacher.source(folder, rows), data__rows=len(rows),
    data__max_prompt_length=96, data__max_response_length=32, data__length_buckets=False,
    data__validation=0.2,
    sft__steps=2, sft__batch_size=4, correct__steps=2, correct__batch_size=4, rl__steps=4,
    ares__most_failed=0.7, feedback__writers__teacher__base_url=url,
    evaluation__reward_model=str(published.foreign(folder / "judge")),
  )  # fmt: skip


def watching(seen):
  """Has every arm of RL keep what was sampled, and what each of it was worth, in `seen`."""
  whole = rewards.signal

  def signal(context, teacher, questions, arrange, *rest):
    score = whole(context, teacher, questions, arrange, *rest)

    def watched(rows, prompts, responses):
      known = score(rows, prompts, responses)
      facts = {name: np.asarray(one) for name, one in known.more.items()}
      sampled = zip(*map(np.asarray, (responses.tokens, responses.mask, known.reward)), strict=True)
      for place, (ids, mask, reward) in enumerate(sampled):
        own = {name: one[place] for name, one in facts.items()}
        seen.append(
          (arrange, context.rows.settings.tokenizer, ids[mask].tolist(), reward[mask], own)
        )
      return known

    return watched

  return mock.patch.object(rewards, "signal", signal)


def expected(tokenizer, ids):
  """Returns the rewards of a response, token by token, and its sentences; or why it is dropped."""
  text = tokenizer.decode(ids)
  lines = [" ".join(sentence.split()) for sentence in sentences.said(text)]
  if not lines:
    return sentence_scores.SILENT
  if fate(lines) != "":
    return BROKEN[fate(lines)]
  by_token = np.zeros(len(ids))
  said = set()
  for line, (_, end) in zip(lines, sentences.split(text), strict=True):
    # The first token with which the sentence stands there as a whole.
    last = next(n for n in range(len(ids)) if tokenizer.decode(ids[: n + 1])[:end] == text[:end])
    by_token[last] += (0 if line.casefold() in said else worth(line)) - 0.5
    said.add(line.casefold())
  return by_token, lines


def check(arrange, tokenizer, ids, reward, facts):
  """Checks what a response is worth, and returns how many sentences it has; 0: it is dropped."""
  found = expected(tokenizer, ids)
  failure = found if isinstance(found, str) else ""
  dropped = {one: facts[f"dropped_{one}"] for one in sentence_scores.FAILURES}
  assert dropped == {one: float(one == failure) for one in sentence_scores.FAILURES}
  assert facts["dropped"] == bool(failure)
  if failure:
    assert np.isnan(reward).all()
    return 0

  by_token, lines = found
  np.testing.assert_allclose(reward.sum(), by_token.sum(), atol=1e-5)
  if arrange is rewards.as_given:
    np.testing.assert_allclose(reward, by_token, atol=1e-6)
  elif arrange is rewards.summed:
    assert not reward[:-1].any()
  return len(lines)


@pytest.mark.filterwarnings("ignore")
def test_a_chat_model_learns_from_scores_of_its_sentences(name, tmp_path, monkeypatch):
  monkeypatch.setenv(endpoint.KEY, KEY)
  seen = []
  with chat_teacher.replying(reply) as server, watching(seen):
    config = configured(name, tmp_path, server.url)
    context = tiny_run.build(config, tmp_path / "run")
    study = ares.RECIPE.train(context)
    asked = chat_teacher.within_ceilings(context, server.bodies)
    again = ares.RECIPE.train(tiny_run.build(config, tmp_path / "run"))
    assert len(server.bodies) == asked, "who was taught reads replies back"

  counts = [check(*one) for one in seen]
  # All samples of all iterations of all arms, and those of each that are shown at its end.
  assert len(counts) == ((4 + 1) * 3 + (2 + 1) * 2) * 8
  # The made-up model writes noise, which has no sentences.
  assert counts.count(0) and max(counts) > (name == "smollm2")
  for stage, found in study.corrected.items():
    rows = chat_teacher.made(tmp_path / "run", f"{stage}_corrections")
    failed = [row for row in rows if row["response"] is None]
    assert len(failed) == found.counts["failed"] and len(rows) == found.counts["answers"]
    learnt = [row.chosen for part in (found.fold.rows, found.fold.validation) for row in part]
    assert learnt == [row["response"] for row in rows if row["response"] is not None]
    assert all(text.startswith("Rather so: ") for text in learnt)
  assert sum(found.counts["failed"] for found in study.corrected.values())

  assert [*study.policies] == [*again.policies]
  for stage, policy in study.policies.items():
    jax.tree.map(np.testing.assert_array_equal, policy.params, again.policies[stage].params)
  losses = chat_teacher.losses(tmp_path / "run")
  assert {*losses} >= {*study.policies}
  assert all(map(math.isfinite, [loss for some in losses.values() for loss in some]))
