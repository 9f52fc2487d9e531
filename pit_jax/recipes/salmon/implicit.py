"""A reward without a head: how much likelier a response is under principles than without any.

  r(x, y, P) = log π(y | x, P) − log π_sft(y | x)          see `rollout/implicit.py`

π begins as π_sft, which has seen demonstrations under principles, and learns from the labelled rows
by DPO's loss, every prompt with the row's principles (Rafailov et al. 2023, arXiv 2305.18290). A
scalar head has to learn what a principle and a letter make of each other from the labels alone; a
language model has that product in the likelihood of every token.
"""

import dataclasses

import ml_collections

from pit_jax.data import preferences
from pit_jax.rollout import implicit, inference
from pit_jax.run import context as contexts
from pit_jax.stages import dpo, trained
from pit_jax.types import Params


@dataclasses.dataclass(frozen=True)
class Implicit(trained.Trained):
  """A language model that rewards, and the one without principles that it is compared with."""

  reference: Params  # π_sft

  def asked(self, asking: inference.Inference) -> implicit.Reward:
    """Returns the reward, ready to be asked of texts."""
    return implicit.Reward(asking, self.params, self.reference)


def run(
  context: contexts.Context,
  name: str,
  fold: preferences.Fold,
  *,
  policy: Params,
  job: ml_collections.ConfigDict,
) -> Implicit:
  """Returns a language model trained on rows whose prompts show principles, from π_sft."""
  result = dpo.run(context, name, fold, start=policy, reference=policy, job=job)
  facts = {**result.facts, "accuracy": result.facts["validation/accuracy"]}
  return Implicit(result.params, facts, policy)
