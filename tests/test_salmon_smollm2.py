"""A real chat model compares its own answers by one principle at a time."""

import json
from unittest import mock

import numpy as np
import pytest
import smollm2
import tiny_run

from pit_jax.data import principles
from pit_jax.feedback import language_judge
from pit_jax.recipes.salmon import banks, labelling

pytestmark = pytest.mark.slow

THINGS = (
  "tea",
  "rice",
  "soup",
  "bread",
  "jam",
  "a cake",
  "a salad",
  "an omelette",
  "a pie",
  "fudge",
)
ASKED = ("How do I make {}?", "Why do people like {}?", "Describe {} in one sentence.")
PROMPTS = [asked.format(thing) for asked in ASKED for thing in THINGS]


@pytest.fixture(scope="module")
def context(tmp_path_factory):
  folder = tmp_path_factory.mktemp("chat")
  rows = [{"prompt": prompt, "chosen": "yes", "rejected": "no"} for prompt in PROMPTS]
  (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  model = str(smollm2.directory())
  config = tiny_run.config(
    "salmon_chat", "smollm2_135m_smoke", model__base=model, model__lora__rank=0,
    data__source=f"jsonl:{folder / 'prompts.jsonl'}", data__held_out=0.1, data__rows=len(PROMPTS),
    data__fold_sizes=(9.0, 1.0), data__max_prompt_length=160, data__max_response_length=24,
    inference_batch_size=20, feedback__raters__self__model=model,
  )  # fmt: skip
  return tiny_run.build(config, folder / "run")


@pytest.mark.filterwarnings("ignore")
def test_smollm2_is_the_judge_of_its_own_answers(context):
  whole = banks.read(context.config)
  names = ("polite", "concise")
  bank = principles.Bank(
    tuple(whole.by_name[name] for name in names), {}, whole.template, whole.joint
  )
  asked = []
  write = language_judge.write
  watch = lambda *row: asked.append(write(*row)) or asked[-1]  # noqa: E731
  with mock.patch.object(language_judge, "write", watch):
    labelled = labelling.labelled(context, bank, context.initial_policy())
  pairs = [pair for part in labelled.pairs.values() for pair in part]
  assert len(pairs) >= 20 and len(asked) == 2 * 2 * len(pairs)
  sentences = [principle.text for principle in bank.principles]
  assert all(sum(one in text for one in sentences) == 1 for text in asked)
  assert {pair.prompt for pair in pairs} <= {*PROMPTS}

  orders = labelling.scores(context, "scores", bank, pairs)  # read back
  assert orders.shape == (len(pairs), 2, 2) and np.abs(orders).max() <= 1
  assert (orders.std(axis=(0, 2)) > 1e-3).all()  # it says something of either
  assert np.abs(orders[:, 0] - orders[:, 1]).max() > 1e-3  # and not the same of both
  fold = labelled.fold()
  shown = [row.prompt for row in fold.rows]
  assert shown and all("\n- The answer " in prompt for prompt in shown)
