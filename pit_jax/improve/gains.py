"""Gains of a version over its draft by a gap reward, and when they are worth keeping.

R(x, y, y') is asked for the reward gap of y over y'. What it gives an answer that is no better,
its zero, depends on the answer: R(x, y, y) of good drafts lies above that of poor ones. Rules of
where the zero is, each with the gain of a version y over its draft y':

  both_orders   (R(x, y, y') − R(x, y', y)) / 2     the zero cancels: exchanged texts have the
                                                    opposite gain, and equal ones none
  draft_zero    R(x, y, y') − R(x, y', y')          the draft's own zero
  zero_point    R(x, y, y') − mean of R(x, y, y)    one zero for all drafts; half as many reads

All are in the unit of R, so that one margin means the same under each where R is antisymmetric.
"""

from collections.abc import Callable, Sequence

import numpy as np

from pit_jax.data import conversations

RULES = ("both_orders", "draft_zero", "zero_point")

Prompts = Sequence[conversations.Prompt]
Texts = Sequence[str]
# (questions, answers, references) in words → R(x, answer, reference) of each, Float[N].
Gaps = Callable[[Prompts, Texts, Texts], np.ndarray]


def check(rule: str) -> None:
  """Raises a ValueError unless it is one of RULES."""
  if rule not in RULES:
    raise ValueError(f"stop_rule={rule!r}; use one of {', '.join(RULES)}")


def of(
  gaps: Gaps, rule: str, zero_point: float | int, questions: Prompts, versions: Texts, drafts: Texts
) -> np.ndarray:
  """Returns the gain of each version over its draft, in the unit of the gap reward, Float[N].

  Both reads of a row go into one call, which fills the batches of the rows that are still open.
  Of equal texts nothing is asked where a rule subtracts what it would ask again.

  Args:
    gaps: how the gap reward is asked.
    rule: one of RULES, of which "zero_point" alone goes by the mean of R(x, y, y).
    zero_point: that mean.
    questions: x, one per row, with as many versions y and drafts y'.

  Raises:
    ValueError: the rule is none.
  """
  check(rule)
  if rule == "zero_point":
    return gaps(questions, versions, drafts) - zero_point
  gained = np.zeros(len(drafts), np.float32)
  changed = _changed(versions, drafts)

  if changed.size:
    prompts, new, old = ([column[i] for i in changed] for column in (questions, versions, drafts))
    # What is subtracted: both_orders exchanges the two, draft_zero asks of the draft itself.
    reference = new if rule == "both_orders" else old
    reads = gaps([*prompts, *prompts], [*new, *old], [*old, *reference])
    difference = reads[: len(prompts)] - reads[len(prompts) :]
    gained[changed] = difference / 2 if rule == "both_orders" else difference

  return gained


def reads(rule: str, versions: Texts, drafts: Texts) -> np.ndarray:
  """Returns the number of gap reward reads behind the gain of each version, Int[N]."""
  check(rule)
  if rule == "zero_point":
    return np.ones(len(drafts), int)
  return 2 * np.bincount(_changed(versions, drafts), minlength=len(drafts))


def _changed(versions: Texts, drafts: Texts) -> np.ndarray:
  """Returns the places of the versions that are not their draft."""
  pairs = zip(versions, drafts, strict=True)
  return np.flatnonzero([version != draft for version, draft in pairs])
