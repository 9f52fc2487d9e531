"""R_PIT and an improver that read principles: better by the principles that they are shown."""

import dataclasses
import random

import ml_collections

from pit_jax.data import conversations, principles
from pit_jax.feedback import principled, writers
from pit_jax.improve import improvement
from pit_jax.recipes.irft import demonstrations
from pit_jax.recipes.salmon import labelling
from pit_jax.run import context as contexts
from pit_jax.run import kinds, made_rows
from pit_jax.stages import feedback, reinforced, reward, sft, trained
from pit_jax.types import Params

STAGES = ("sft_improver", "gap_reward", "improver")


@dataclasses.dataclass(frozen=True)
class Improving:
  """The improver's chain of PIT, every model of which is shown principles."""

  sft: trained.Trained  # (x with principles, y_l) → y_w
  gap_reward: reward.RewardModel
  improver: trained.Trained

  def models(self, context: contexts.Context, policy: Params) -> improvement.Improver:
    """Returns the models, ready to improve prompts with principles."""
    own = (self.improver.params, self.gap_reward.params, self.gap_reward.facts["zero_point"])
    c = context.config.evaluation
    return improvement.Improver(
      context.models.inference, policy, *own, margin=c.margin, stop_rule=c.stop_rule
    )


def stages(config: ml_collections.ConfigDict, kept: tuple[str, ...]) -> list[kinds.Stage]:
  """Returns the stages of the chain; networks that are there before it are kept."""
  imitation, gap, improver = STAGES
  rows = [
    (("epochs", config.salmon.passes * config[name].epochs),) for name in ("sft", "gap_reward")
  ]
  own = {"prompts": kinds.IMPROVER}
  fold = config.reward.fold
  return [
    kinds.Stage(imitation, "sft", fold=fold, kept=kept, values=rows[0], **own),
    kinds.Stage(gap, "gap_reward", kept=(*kept, "language"), values=rows[1], **own),
    kinds.Stage(
      improver, "rl", prompts=kinds.IMPROVER, reward="scalar", kept=(*kept, "language", "scalar")
    ),
  ]


def train(
  context: contexts.Context,
  labelled: labelling.Labelled,
  policy: trained.Trained,
  reward_model: trained.Trained,
) -> Improving:
  """Trains the chain on the rows that the reward model learnt from.

  The curriculum is PIT's second stage alone: references are samples of the policy that was sampled,
  of each prompt one, which is to be improved under as many lists as there are passes. Lists are
  drawn as for the labels, and an improver and its reward are shown the same one.
  """
  c = context.config
  imitation, gap, improver = STAGES
  fold = labelled.fold(is_read=False)
  how = {"job": c.sft, "prompts": kinds.IMPROVER}
  improver_sft = sft.run(context, imitation, fold, start=policy.params, **how)
  models = {"start": reward_model.params, "sampler": improver_sft.params}
  gap_reward = reward.gap(context, gap, fold, job=c.gap_reward, **models)

  prompts, references, context = _asked(context, labelled.bank, policy.params)
  columns = (prompts, references)
  improved = reinforced.improver(context, improver, *columns, gap_reward, improver_sft.params)
  return Improving(improver_sft, gap_reward, improved)


def _asked(
  context: contexts.Context, bank: principles.Bank, policy: Params
) -> tuple[list[conversations.Prompt], list[str], contexts.Context]:
  """Returns prompts with principles, a reference of each, and the context that depends on them."""
  c = context.config
  fold = demonstrations.prompts(context, c.rl.fold)
  student = writers.model("sft", context.models.inference, policy)
  how = {"temperature": c.salmon.temperature, "most_failed": c.salmon.most_failed}
  samples = feedback.completions(context, "references", fold, student, **how)
  drawing = principled.drawing(c.salmon)
  prompts = []
  references = []
  for number in range(c.salmon.passes):
    for i, (prompt, text) in enumerate(samples.parts["rows"]):
      rng = random.Random(f"improved {c.seed} {number} {i}")
      prompts.append(bank.show(prompt, principled.draw(rng, drawing, bank, prompt)))
      references.append(text)
  return prompts, references, made_rows.depending(context, samples.made)
