"""A reward without a head: how much likelier a response is to one language model than to another.

  r(x, y) = log π(y | x′) − log π_ref(y | x)

The first may be shown more than the second: x′ is x with the principles to reward by, say. Such a
reward is implicit in every language model that DPO's loss has trained (Rafailov et al. 2023, arXiv
2305.18290).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from pit_jax.data import conversations
from pit_jax.rollout import inference
from pit_jax.types import Params

Prompts = Sequence[conversations.Prompt]
Texts = Sequence[str]


@dataclasses.dataclass(frozen=True)
class Reward:
  """Two language models, whose likelihoods reward."""

  asking: inference.Inference  # how both are asked
  params: Params  # π
  reference: Params  # π_ref

  def rate(self, questions: Prompts, shown: Prompts, answers: Texts) -> np.ndarray:
    """Returns r of answers in words, without their ends, in nats, Float[N].

    Args:
      questions: x, what π_ref is shown.
      shown: x′, what π is shown.
      answers: y.
    """
    under = self.asking.likelihoods(self.params, shown, answers)
    return under - self.asking.likelihoods(self.reference, questions, answers)

  def gaps(
    self, questions: Prompts, shown: Prompts, answers: Texts, references: Texts
  ) -> np.ndarray:
    """Returns r of answers less r of references, in nats, Float[N]; see `rate`.

    Equal texts have no gap, and exchanged ones the opposite. A text that stands in several rows is
    read once.
    """
    rows = [*zip(questions, shown, answers, strict=True)]
    others = [*zip(questions, shown, references, strict=True)]
    places = {row: place for place, row in enumerate(dict.fromkeys([*rows, *others]))}
    if not places:
      return np.zeros(0, np.float32)
    rated = self.rate(*map(list, zip(*places, strict=True)))
    return rated[[places[row] for row in rows]] - rated[[places[row] for row in others]]
