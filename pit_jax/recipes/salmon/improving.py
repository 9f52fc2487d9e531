"""R_PIT and an improver that read principles: better by the principles that they are shown.

Where the policies' reward is a head, R_PIT is one, too, trained on the rows that the head learnt
from. Where it is one of likelihoods, R_PIT is how much more it gives a version than the reference,
under the same principles:

  R_PIT(x, y, y_ref, P) = r(x, y, P) − r(x, y_ref, P)
"""

import dataclasses
import random
from collections.abc import Sequence

import ml_collections
import numpy as np

from pit_jax import hosts, parallel
from pit_jax.data import conversations, preferences, principles
from pit_jax.feedback import principled, writers
from pit_jax.improve import improvement
from pit_jax.models import pure
from pit_jax.recipes.irft import demonstrations
from pit_jax.recipes.salmon import banks, conditioned, implicit, labelling
from pit_jax.rollout import implicit as likelihoods
from pit_jax.run import context as contexts
from pit_jax.run import kinds, made_rows
from pit_jax.stages import calibration, feedback, reinforced, reward, rl, sft, trained
from pit_jax.types import Params

SFT, GAP, IMPROVER = "sft_improver", "gap_reward", "improver"


@dataclasses.dataclass(frozen=True)
class Improving:
  """The improver's chain of PIT, every model of which is shown principles."""

  sft: trained.Trained  # M_PIT^SFT, where RL begins
  gap_reward: conditioned.Model  # a head of its own, or the policies' reward of likelihoods
  improver: trained.Trained

  def models(self, context: contexts.Context, policy: Params) -> improvement.Improver:
    """Returns the models, ready to improve prompts under principles."""
    asking = context.models.inference
    model = self.gap_reward
    if isinstance(model, implicit.Implicit):
      stopping = (model.asked(asking), 0.0)
    else:
      stopping = (model.params, model.facts["zero_point"])
    c = context.config.evaluation
    how = {"margin": c.margin, "stop_rule": c.stop_rule}
    return improvement.Improver(asking, policy, self.improver.params, *stopping, **how)


@dataclasses.dataclass(frozen=True)
class Asked:
  """What an improver is to improve, and by which principles."""

  questions: list[conversations.Prompt]
  prompts: list[conversations.Prompt]  # the questions with principles
  references: list[str]

  def gaps(
    self, model: likelihoods.Reward, rows: np.ndarray, versions: Sequence[str]
  ) -> np.ndarray:
    """Returns how much better versions of some rows are than the references, in nats, Float[N]."""
    columns = (self.questions, self.prompts, self.references)
    questions, prompts, references = ([column[row] for row in rows] for column in columns)
    return model.gaps(questions, prompts, versions, references)


def stages(config: ml_collections.ConfigDict, kept: tuple[str, ...]) -> list[kinds.Stage]:
  """Returns the stages of the chain; networks that are there before it are kept."""
  c = config.salmon
  own = {"prompts": kinds.IMPROVER}
  fold, times = config.reward.fold, c.passes
  if c.writer and c.instructed:
    fold, times = config.sft.fold, c.instructed
  epochs = (("epochs", times * config.sft.epochs),)
  planned = [kinds.Stage(SFT, "sft", fold=fold, kept=kept, values=epochs, **own)]
  kept = (*kept, "language")
  if config.salmon.form == banks.IMPLICIT:
    # The reward's networks are among those that are kept.
    return [*planned, kinds.Stage(IMPROVER, "rl", reward=kinds.NONE, kept=kept, **own)]
  epochs = (("epochs", c.passes * config.gap_reward.epochs),)
  return [
    *planned,
    kinds.Stage(GAP, GAP, kept=kept, values=epochs, **own),
    kinds.Stage(IMPROVER, "rl", reward="scalar", kept=(*kept, "scalar"), **own),
  ]


def train(
  context: contexts.Context,
  labelled: labelling.Labelled,
  followed: preferences.Fold | None,
  policy: trained.Trained,
  reward_model: conditioned.Model,
) -> Improving:
  """Trains the chain.

  M_PIT^SFT learns what the writer makes of its own answers under principles (`followed`): the
  labels of two samples, neither of which was written under any, teach it hardly what they mean.
  Where there is no such writer it learns from these: (x with principles, y_l) → y_w.

  In RL the curriculum is PIT's second stage alone: references are samples of the policy that was
  sampled, of each prompt one, which is to be improved under as many lists as there are passes.
  Lists are drawn as for the labels, and an improver and its reward are shown the same one.
  """
  c = context.config
  fold = labelled.fold(is_read=False)
  how = {"job": c.sft, "prompts": kinds.IMPROVER}
  improver_sft = sft.run(context, SFT, followed or fold, start=policy.params, **how)
  start = improver_sft.params
  gap_reward = reward_model
  if isinstance(reward_model, reward.RewardModel):
    models = {"start": reward_model.params, "sampler": start}
    gap_reward = reward.gap(context, GAP, fold, job=c.gap_reward, **models)

  asked, context = _asked(context, labelled.bank, policy.params)
  columns = (asked.prompts, asked.references)
  if isinstance(gap_reward, reward.RewardModel):
    improved = reinforced.improver(context, IMPROVER, *columns, gap_reward, start)
  else:
    signal = _by_likelihoods(context, gap_reward, asked, _validating(labelled), start)
    # The policies' first value model, on the trunk of the improver.
    fresh = {"trunk": start["trunk"]}
    value = pure.complete(context.models.scalar, context.key("improver's value head"), fresh)
    how = {"signal": signal, "value": value, "start": start}
    improved = reinforced.revised(context, IMPROVER, *columns, **how)
  return Improving(improver_sft, gap_reward, improved)


def _asked(
  context: contexts.Context, bank: principles.Bank, policy: Params
) -> tuple[Asked, contexts.Context]:
  """Returns what RL is to improve, and the context that depends on it."""
  c = context.config
  fold = demonstrations.prompts(context, c.rl.fold)
  student = writers.model("sft", context.models.inference, policy)
  how = {"temperature": c.salmon.temperature, "most_failed": c.salmon.most_failed}
  samples = feedback.completions(context, "references", fold, student, **how)
  drawing = principled.drawing(c.salmon)
  asked = Asked([], [], [])
  for number in range(c.salmon.passes):
    for i, (prompt, text) in enumerate(samples.parts["rows"]):
      rng = random.Random(f"improved {c.seed} {number} {i}")
      asked.questions.append(prompt)
      asked.prompts.append(bank.show(prompt, principled.draw(rng, drawing, bank, prompt)))
      asked.references.append(text)
  return asked, made_rows.depending(context, samples.made)


def _validating(labelled: labelling.Labelled) -> Asked:
  """Returns the worse output of every row that validated the reward model, to be improved."""
  rows = labelled.labelled("validation")
  pairs = labelled.pairs["validation"]
  fold = labelled.fold(is_read=False)
  return Asked(
    [pairs[row["pair"]].prompt for row in rows],
    [row.prompt for row in fold.validation],
    [row.rejected for row in fold.validation],
  )


def _by_likelihoods(
  context: contexts.Context,
  model: implicit.Implicit,
  asked: Asked,
  validating: Asked,
  start: Params,
) -> rl.RewardFn:
  """Returns R_PIT of likelihoods as what RL maximises.

  It has mean 0 and deviation 1 on versions of what validates that the improver makes before RL;
  recorded in calibration/improver.json.
  """
  inference = context.models.inference
  gap = model.asked(inference)

  def sample(key, temperature):
    shown = (validating.prompts, validating.references)
    versions = inference.revise(start, *shown, key, temperature)
    return validating.gaps(gap, np.arange(len(versions)), versions)

  facts = calibration.calibrate(context, IMPROVER, dict, sample)

  def score(rows, _, responses):
    versions = inference.words(hosts.fetch(responses))
    gaps = asked.gaps(gap, rows, versions)
    return parallel.put_batch(facts["gain"] * gaps + facts["shift"], context.mesh)

  return score
