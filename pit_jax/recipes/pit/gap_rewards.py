"""What can reward an improver: R_PIT; for ablations, one term of eq. 2 or a difference of R_P."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import ml_collections
import numpy as np

from pit_jax import layout, parallel
from pit_jax.data import conversations, encode, preferences
from pit_jax.data import rows as data_rows
from pit_jax.losses import gap
from pit_jax.run import context as contexts
from pit_jax.stages import calibration, reward, rl
from pit_jax.types import Params

SINGLE_TERM = "single_term"  # of the stage that trains it, after gap_reward_
SINGLE = "wl_lw"  # of the terms the one that compares the two responses of a pair with each other


@dataclasses.dataclass(frozen=True)
class GapReward:
  """Reward of a response relative to a reference response.

  It has deviation 1 on samples of M_PIT^SFT that improve y_l, and as RL is given it mean 0.
  """

  # Accuracy, order and calibration on the validation part, as of a `reward.RewardModel`.
  facts: dict
  value: Params  # the value model to start from
  # (questions, references), the texts of a stage's prompts → what its RL maximises.
  signal: Callable[[Sequence[conversations.Prompt], Sequence[str]], rl.RewardFn]
  # (questions, answers, references) in words → gap of each, Float[N].
  gaps: Callable[[Sequence[conversations.Prompt], Sequence[str], Sequence[str]], np.ndarray]

  @property
  def unchanged(self) -> float:
    """What RL is given for a text that is its own reference, on average."""
    return self.facts["zero_point"] + self.facts["shift"]


def of_model(context: contexts.Context, model: reward.RewardModel) -> GapReward:
  """Returns a gap reward model as the improver's reward."""
  scores = reward.scored(context, model)
  gaps = functools.partial(context.models.inference.gaps, model.params)
  return GapReward(model.facts, reward.centred(model), lambda *texts: scores, gaps)


def single_term(
  context: contexts.Context, fold: preferences.Fold, *, job: ml_collections.ConfigDict, **models
) -> GapReward:
  """Trains R_PIT with one term of eq. 2 alone, −log σ(r^{wl} − r^{lw}), in stages of its own.

  Nothing then asks for an order of identical pairs. All else is as for `reward.gap`.
  """
  alone = job.copy_and_resolve_references()
  alone.term_weights = tuple(float(term == SINGLE) for term in gap.TERMS)
  name = f"gap_reward_{SINGLE_TERM}"
  return of_model(context, reward.gap(context, name, fold, job=alone, **models))


def difference(
  context: contexts.Context,
  rows: Sequence[data_rows.Preference],
  model: reward.RewardModel,
  improver_sft: Params,
) -> GapReward:
  """Returns R_P(x, y) − R_P(x, y_ref), which no gap model is trained for.

  The reference's score is the same for every response to a prompt: what is maximised is R_P with
  the reference in view, and the value model may learn the rest. Identical pairs have one gap, so
  the zero point is exact.

  Args:
    context: of the run.
    rows: pairs on which it is measured and calibrated.
    model: R_P, trained or published. It is the first value model; where its trunk does not fit,
      that of M_PIT^SFT is, with a fresh head.
    improver_sft: M_PIT^SFT, whose samples set the scale.
  """
  rate = reward.rating(context, model)
  questions = [row.prompt for row in rows]
  rejected = [row.rejected for row in rows]

  def plain(questions, answers, references):
    return rate(questions, answers) - rate(questions, references)

  def known():
    margins = plain(questions, [row.chosen for row in rows], rejected)
    # Turned around, a difference changes its sign; of identical responses it is 0.
    gaps = {"wl": margins, "ww": 0 * margins, "ll": 0 * margins, "lw": -margins}
    facts = {name: model.facts[name] for name in ("accuracy", "margin", "ece")}
    return {**facts, "order": (margins >= 0).mean(), "zero_point": 0.0, "gaps": gaps}

  def sample(key, temperature):
    answers = context.models.inference.revise(improver_sft, questions, rejected, key, temperature)
    return plain(questions, answers, rejected)

  facts = calibration.calibrate(context, "rp_difference", known, sample)
  gain = facts["gain"]
  signal = _published_signal if model.published else _signal
  signal = functools.partial(signal, context, model, gain, facts["shift"])
  value = reward.first_value(context, model, improver_sft)
  return GapReward(facts, value, signal, lambda *texts: gain * plain(*texts))


def _signal(context, model, gain: float, shift: float, questions, references) -> rl.RewardFn:
  """Returns the difference as what the RL of a stage with these texts maximises."""
  inference = context.models.inference
  settings = dataclasses.replace(inference.settings, over_long="cut")  # every row has its place
  shown = settings.formats["policy"].conversations(questions)
  table = encode.prompts(shown, settings, context.rows.tokens)

  def score(rows, _, responses):
    texts = inference.responses([references[i] for i in rows])
    host_batch = (table.padded(rows, table.widths), texts)
    prompts, worse = parallel.put_batch(host_batch, context.mesh)
    params = layout.to_devices(model.params)

    # What was sampled may have another end than R_P learnt.
    scores = [inference.sample_scorer(params, prompts, y) for y in (responses, worse)]
    return gain * (scores[0] - scores[1]) + shift

  return score


def _published_signal(context, model, gain: float, shift: float, questions, references):
  """Returns `_signal` of a published R_P, which reads words."""
  better = rl.published_reward(context, model.published, questions)

  def score(rows, prompts, responses):
    asked = ([column[row] for row in rows] for column in (questions, references))
    worse = model.published.batched(len(rows)).rate(*asked)
    difference = better(rows, prompts, responses) - parallel.put_batch(worse, context.mesh)
    return gain * difference + shift

  return score
