"""PIT's improver beside self-refinement: of the same refinements, by R_PIT and RL, and no feedback.

M_PIT^SFT is the model of stage 1 that learnt no feedback. R_PIT learns that the teacher's
refinement is better than the draft, and RL of the improver is PIT's second stage alone: references
are drafts for the prompts of stage 2.
"""

from collections.abc import Mapping, Sequence

import ml_collections

from pit_jax.data import critiques, preferences
from pit_jax.recipes.srt import arms
from pit_jax.run import context as contexts
from pit_jax.run import kinds, made_rows
from pit_jax.stages import criticism, feedback, reinforced, reward, trained


def stages(config: ml_collections.ConfigDict, kept: tuple[str, ...]) -> list[kinds.Stage]:
  """Returns the stages of R_PIT and of RL; networks that are there before it are kept."""
  if not config.srt.improver:
    return []
  own = {"prompts": kinds.IMPROVER}
  return [
    kinds.Stage(arms.GAP, "gap_reward", kept=kept, **own),
    kinds.Stage(arms.IMPROVER, "rl", reward="scalar", kept=(*kept, "scalar"), **own),
  ]


def train(
  context: contexts.Context,
  taught: Mapping[str, Sequence[criticism.Criticised]],
  drafts: feedback.Completions,
  improver_sft: trained.Trained,
) -> trained.Trained:
  """Returns the improver after RL.

  Args:
    context: of the run.
    taught: the teacher's useful critiques, by part of the fold.
    drafts: what RL improves, on other prompts.
    improver_sft: M_PIT^SFT, where RL begins.

  Raises:
    ValueError: the teacher refined too little for R_PIT to learn from and to validate.
  """
  c = context.config
  fold = _preferred(taught)
  # The gaps of the validation part set the unit: M_PIT^SFT is asked in the form of a critic.
  how = {"start": improver_sft.params, "sampler": None, "job": c.gap_reward}
  gap_reward = reward.gap(context, arms.GAP, fold, **how)

  context = made_rows.depending(context, drafts.made)
  prompts, references = (list(column) for column in zip(*drafts.parts["rows"], strict=True))
  asked = critiques.form_of(c.critique).format.conversations(prompts, references)
  columns = (prompts, references)
  start = improver_sft.params
  return reinforced.improver(context, arms.IMPROVER, *columns, gap_reward, start, asked)


def _preferred(taught: Mapping[str, Sequence[criticism.Criticised]]) -> preferences.Fold:
  """Returns the teacher's refinements preferred to the drafts; those left as they are are none."""
  fold = preferences.Fold(*(
    tuple(preferences.Preference(row.prompt, row.text, row.draft) for row in taught[part]
          if row.outcome == critiques.REFINED)
    for part in feedback.PARTS
  ))  # fmt: skip
  if not fold.rows or len(fold.validation) < 2:
    raise ValueError(
      f"the teacher refined {len(fold.rows)} drafts to learn from and {len(fold.validation)} to "
      "validate, and R_PIT needs 1 and 2: give more prompts, or use srt.improver=False"
    )
  return fold
