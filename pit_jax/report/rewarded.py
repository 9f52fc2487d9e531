"""What a stage of reinforcement learning maximised, in words: a reward, or a weighted sum of some.

Results name the rewards of a stage as training logged them: a recipe's own ones, in deviations over
samples of the model before RL, and Python functions (`module:function`), in units of their own.
"""

from collections.abc import Mapping

PREFIX = "objective/rewards/"  # of the metric that is a reward's mean


def of_stage(stage: Mapping) -> dict[str, Mapping]:
  """Returns the rewards of a stage, name → how it is `called` and its `weight`; none if unknown."""
  return stage.get("rewards") or {}


def is_function(name: str) -> bool:
  """Returns whether a reward is a Python function, which has a unit of its own."""
  return ":" in name


def is_single(stage: Mapping) -> bool:
  """Returns whether a stage maximised its recipe's own reward alone, which is in deviations."""
  rewards = of_stage(stage)
  others = (name for name, row in rewards.items() if is_function(name) or row["weight"] != 1)
  return len(rewards) < 2 and not any(others)


def unit(stage: Mapping) -> str:
  """Returns the unit of what a stage maximised; "" of a sum, or a function, which has none."""
  return "deviations" if is_single(stage) else ""


def words(stage: Mapping, otherwise: str = "") -> str:
  """Returns what a stage maximised, as `R_P + 0.5 · brevity`; `otherwise` if it is not known."""
  text = ""
  for row in of_stage(stage).values():
    sign = "−" if row["weight"] < 0 else "+"
    size = abs(row["weight"])
    factor = "" if size == 1 else f"{size:g} · "
    text += f" {sign} {factor}{row['called']}" if text else f"{sign}{factor}{row['called']}"

  return text.removeprefix("+") or otherwise


def optimised(results: Mapping, chain: Mapping) -> str:
  """Returns what a chain of a frontier maximised, as its last stage says it; else its proxy."""
  trained = results.get("stages", {}).get(chain["points"][-1]["stage"], {})
  return words(trained, chain["proxy"])


def named(
  names: list[str], weights: Mapping[str, float], own: str | None
) -> dict[str, dict[str, str | float]]:
  """Returns the rewards of a stage as results have them.

  Args:
    names: of all that were logged, in their order.
    weights: as the section of the stage has them; a reward that it does not name has weight 1.
    own: what the page calls the recipe's own reward; None: its name.
  """
  short = [name.rpartition(":")[2] for name in names]
  rewards = {}
  for name, brief in zip(names, short, strict=True):
    # Functions of one name in two modules are told apart by their modules.
    called = brief if short.count(brief) == 1 else name
    if not is_function(name):
      called = own or name
    rewards[name] = {"called": called, "weight": float(weights.get(name, 1.0))}

  return rewards
