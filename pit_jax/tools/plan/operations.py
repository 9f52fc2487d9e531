"""FLOPs of a function, counted in its jaxpr."""

import math
from typing import Any

from jax.extend import core


def count(jaxpr: Any, unknown: int = 1) -> float:
  """Returns the FLOPs of all matrix products, those computed again for the gradient included.

  Everything else is little beside them. Of the branches of a condition the dearest counts, and of
  a kernel every block, those that it leaves out too.

  Args:
    jaxpr: of the function, over all devices.
    unknown: how often a loop runs whose end depends on data. Of several in a row, each of which
      goes on with fewer rows, the first one takes all the turns, which is the most there can be. A
      counter that goes up to a constant counts from 0.
  """
  return _count(jaxpr, [unknown])


def _count(jaxpr: Any, left: list[int]) -> float:
  jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
  total = 0.0
  for equation in jaxpr.eqns:
    name = equation.primitive.name
    params = equation.params
    if name == "dot_general":
      total += _product(equation)
    elif name == "while":
      turns = _turns(params["cond_jaxpr"].jaxpr)
      if turns is None:
        # A loop whose end depends on data: the first takes all the turns that are left.
        turns = left[0]
        left[0] = 0

      total += turns * _count(params["body_jaxpr"], left)
    elif name == "scan":
      total += params["length"] * _count(params["jaxpr"], left)
    elif name == "pallas_call":  # a block at a time
      total += math.prod(params["grid_mapping"].grid) * _count(params["jaxpr"], left)
    elif name == "shard_map":  # of one device
      total += params["mesh"].size * _count(params["jaxpr"], left)
    elif name == "cond":
      total += max(_count(branch, left) for branch in params["branches"])
    else:
      total += sum(_count(inner, left) for inner in core.jaxprs_in_params(params))

  return total


def _turns(condition: Any) -> int | None:
  """Returns how often a loop runs at most, whose counter goes up by 1 to a constant; or None."""
  if [equation.primitive.name for equation in condition.eqns] != ["lt"]:
    return None
  _, limit = condition.eqns[0].invars
  return int(limit.val) if isinstance(limit, core.Literal) else None


def _product(equation: Any) -> float:
  (contracted, _), _ = equation.params["dimension_numbers"]
  first = equation.invars[0].aval.shape
  # A multiplication and an addition for each pair that is contracted.
  return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(first[i] for i in contracted)
