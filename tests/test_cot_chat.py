"""Chat models, a real one among them, learn from rationales that a verifier finds right."""

import collections
import contextlib
import math
import re
from unittest import mock

import chat_teacher
import jax
import numpy as np
import pytest
import tiny_run
from test_endpoint import KEY

from pit_jax.data import conversations
from pit_jax.feedback import endpoint, writers
from pit_jax.recipes import cot
from pit_jax.recipes.cot import arms

THINGS = ("apples", "books", "cups", "eggs", "stamps", "shells")
FORMS = (
  ("{} has {} {} and buys {} more. How many {} does {} have now?", lambda a, b: a + b),
  ("{} has {} {} and gives away {}. How many {} does {} have left?", lambda a, b: a - b),
)
NAMES = ("Ada", "Ben", "Cleo")


def problems():
  """Returns word problems in plain English, each with its answer."""
  made = []
  for number in range(48):
    form, answer = FORMS[number % 2]
    a, b = 5 + number % 5, 1 + number // 2 % 4
    name, thing = NAMES[number % 3], THINGS[number // 6 % 6]
    made.append((form.format(name, a, thing, b, thing, name), answer(a, b)))
  return dict(made)


ANSWERS = problems()
# What becomes of a rationale, by the teacher's script.
KEPT, WRONG, SILENT, LOST = "kept", "wrong", "without an answer", "lost"
FATES = (KEPT, KEPT, WRONG, SILENT, LOST)


def fate(prompt):
  return FATES[chat_teacher.drawn(prompt, len(FATES))]


def reply(contents, _):
  """Returns a rationale to a problem, whose answer the request says."""
  prompt = next(prompt for prompt in ANSWERS if contents[-1].startswith(prompt))
  assert f"The right answer is {ANSWERS[prompt]}." in contents[-1]
  said = {KEPT: f"The answer is {ANSWERS[prompt]}", WRONG: f"The answer is {ANSWERS[prompt] + 1}",
          SILENT: "Who knows.", LOST: None}[fate(prompt)]  # fmt: skip
  return said and f"I look at the numbers. I put them together.\n{said}"


def says(text):
  """Returns the number after the words, else the last; "": it has none; None: it is not plain."""
  if re.search(r"[.,/-]\d|\d[/%]|[A-Za-z_]\d|\d[A-Za-z_]|[#\\$]", text):
    return None
  named = re.findall(r"answer is:? (\d+)", text, re.IGNORECASE)
  if "answer" in text.lower():
    return int(named[-1]) if text.lower().count("answer") == len(named) else None
  numbers = re.findall(r"\d+", text)
  return int(numbers[-1]) if numbers else ""


def reasoning(name):
  """Has the made-up model, which knows no arithmetic, write rationales of which half are right."""

  def model(named, asking, params):
    def answer(asked, key, temperature, samples, top_p):
      prompts = [conversations.said(one.prompt) for one in asked]
      whole = [next(one for one in ANSWERS if prompt.startswith(one)) for prompt in prompts]
      return writers.Written([
        [f"Step {n}. The answer is {ANSWERS[prompt] + chat_teacher.drawn(f'{prompt}{n}', 2)}."
         for n in range(samples)]
        for prompt in whole
      ])  # fmt: skip

    return writers.Writer(named, answer)

  return (
    contextlib.nullcontext() if name == "smollm2" else mock.patch.object(writers, "model", model)
  )


@pytest.fixture(params=chat_teacher.MODELS)
def name(request):
  return request.param


def configured(name, folder, url):
  source = chat_teacher.source(folder, chat_teacher.problems(ANSWERS))
  return tiny_run.config(
    "cot", "smollm2_135m_smoke", model__base=str(chat_teacher.model(name, folder)),
    model__lora__rank=4, data__source=source, data__rows=36, data__validation=0.3,
    data__fold_sizes=(1.0, 1.0), data__max_prompt_length=96, data__max_response_length=24,
    data__length_buckets=False, cot__temperature=0.5, cot__samples=4,
    sft__steps=2, sft__batch_size=4, dpo__steps=2, dpo__batch_size=4,
    reward__steps=2, reward__batch_size=4, cot__most_failed=0.4,
    feedback__raters__answer__path=source.removeprefix("jsonl:"),
    feedback__writers__teacher__base_url=url,
  )  # fmt: skip


def rows_of(fold):
  return [*fold.rows, *fold.validation]


@pytest.mark.filterwarnings("ignore")
def test_a_chat_model_learns_of_right_and_wrong_rationales(name, tmp_path, monkeypatch):
  monkeypatch.setenv(endpoint.KEY, KEY)
  run = tmp_path / "run"
  with chat_teacher.replying(reply) as server, reasoning(name):
    config = configured(name, tmp_path, server.url)
    with tiny_run.watching(cot.sft, cot.dpo) as seen:
      context = tiny_run.build(config, run)
      assert context.models.inference.response_length == 24  # whatever rows say beside prompts
      study = cot.RECIPE.train(context)
    asked = chat_teacher.within_ceilings(context, server.bodies)
    again = cot.RECIPE.train(tiny_run.build(config, run))
    assert len(server.bodies) == asked, "who was taught reads replies back"

  # The teacher's: those are imitated whose answer is right, and the others are counted.
  prompts = [row["prompt"] for row in chat_teacher.made(run, "short_answers")]
  fates = collections.Counter(map(fate, prompts))
  counts = {"asked": len(prompts), "kept": fates[KEPT], "failed": fates[LOST], "unknown": 0,
            "wrong": fates[WRONG] + fates[SILENT]}  # fmt: skip
  assert study.teacher == counts and all(fates[one] for one in FATES)
  c = config.cot
  taught = {row.prompt: row.chosen for row in rows_of(seen["sft_steps"][0][0])}
  kept = [prompt for prompt in prompts if fate(prompt) == KEPT]
  assert taught == {f"{prompt} {c.steps_end}": reply([_request(c, prompt)], "") for prompt in kept}
  short = {row.prompt: row.chosen for row in rows_of(seen["sft_short"][0][0])}
  assert short == {f"{prompt} {c.short_end}": str(ANSWERS[prompt]) for prompt in prompts}

  # Its own: right and wrong as the plain text says.
  told = collections.Counter()
  for row in chat_teacher.made(run, "samples"):
    assert len(row["samples"]) == len(row["right"]) == c.samples
    for text, is_right in zip(row["samples"], row["right"], strict=True):
      said = says(text)
      if said is not None:
        assert is_right == (said == ANSWERS[row["prompt"]]), text
        told[is_right] += 1
  assert told[0] and told[1]
  pairs = rows_of(study.found.fold)
  assert len(pairs) == study.found.counts["pairs"] > 1
  for pair in pairs:
    right = ANSWERS[pair.prompt.removesuffix(f" {c.steps_end}")]
    assert says(pair.chosen) in (right, None) and says(pair.rejected) != right
  assert seen["dpo"][0][0] == study.found.fold
  sides = [[frozenset((row.chosen, row.rejected)) for row in rows_of(seen[arm][0][0])]
           for arm in ("dpo", "dpo_random")]  # fmt: skip
  assert sides[0] == sides[1]  # a coin turns some
  assert [*study.policies] == [*again.policies] == [*arms.IMITATED, "dpo", "dpo_cut", "dpo_random",
                                                    "rejection"]  # fmt: skip
  for arm, policy in study.policies.items():
    jax.tree.map(np.testing.assert_array_equal, policy.params, again.policies[arm].params)
  losses = chat_teacher.losses(run)
  assert {*losses} == {*study.policies, arms.REWARD}
  assert all(map(math.isfinite, [loss for some in losses.values() for loss in some]))


def _request(c, prompt):
  return c.request.format(prompt=prompt, answer=ANSWERS[prompt])
