"""Runs of recipe `salmon`, as small as they come."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import tiny_run

from pit_jax.recipes.salmon import banks

SMALL = {
  "model__base": "none", "data__rows": 200, "data__max_prompt_length": 352,
  "evaluation__prompts": 12, "salmon__pairs": 12, "salmon__form": "scalar",
}  # fmt: skip
POLICIES = ["salmon", "salmon_manners", "salmon_drawn"]
# A reward of likelihoods, trained in a few steps.
IMPLICIT = {"salmon__form": "implicit", "dpo__steps": 3, "dpo__batch_size": 8}
OTHERS = (("manners", "greeting,not:closing"), ("drawn", ""))


def config(**changes):
  return tiny_run.config("salmon", **SMALL | {"salmon__others": OTHERS} | changes)


def made(workdir, name):
  return [json.loads(line) for line in (workdir / "rows" / f"{name}.jsonl").open()]


def ratio(context, model, question, shown, answer):
  """A reward of likelihoods, slowly: one response, its log-probabilities token by token.

  Its end is not counted.
  """
  inference = context.models.inference

  def nats(params, prompt):
    settings = context.rows.settings
    chat = settings.formats["policy"].conversations([prompt])
    (prompt_ids,) = settings.encode(chat).ids
    (encoded,) = settings.encode_responses([answer])
    ids = [*prompt_ids, *encoded.ids[0]]
    tokens = jnp.array([ids], jnp.int32)
    logits = inference.language.apply(params, tokens, jnp.ones((1, len(ids)), bool))[0]
    logprobs = np.asarray(jax.nn.log_softmax(logits))
    places = range(len(prompt_ids), len(ids) - 1)
    return sum(logprobs[place - 1, ids[place]] for place in places)

  under = banks.read(context.config).show(question, shown)
  return nats(model.params, under) - nats(model.reference, question)
