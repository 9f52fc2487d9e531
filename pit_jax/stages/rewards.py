"""Named rewards of RL: a recipe's own, and Python functions named in the configuration."""

import dataclasses
import math
import numbers
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import ml_collections
import numpy as np

from pit_jax import configurations, hosts, parallel
from pit_jax.data import conversations, encode, preferences, prompt_formats
from pit_jax.run import context as contexts
from pit_jax.stages import rl
from pit_jax.types import Array, Prompts, Responses

# (prompts, responses, references) in words → a number per response, or for each a list of numbers,
# one per token of it, its end included. References are what an improver is shown; None for a
# policy. Every host asks for the whole batch, so the same texts must have the same rewards.
Function = Callable[[list[str], list[str], list[str] | None], Sequence[Any]]
CALLED = (
  "it is called as f(prompts, responses, references), three lists of texts, of which the last is "
  "None for a policy, and returns a list with a number for each response"
)
TRIED = 2  # rows on which a function is tried
# A reward of any recipe: min(tokens of the response / most tokens of a response, .8), which Sun et
# al. 2024 (arXiv 2310.05910) add with weight 5.
LENGTH = "length"
LONGEST = 0.8


def chosen(
  context: contexts.Context,
  job: ml_collections.ConfigDict,
  own: Mapping[str, rl.RewardFn],
  questions: Sequence[conversations.Prompt],
  references: Sequence[str] | None = None,
) -> rl.Rewards:
  """Returns the rewards of a stage: its own with weight 1, or those that `job.rewards` names.

  Stages of one section may have rewards of other names. What the section says of a recipe's
  rewards is said to the stages that have one of them; the others keep their own.

  Args:
    job: the section of RL.
    own: name → what the recipe rewards this stage with.
    questions: the texts of the stage's prompts.
    references: what an improver is to improve, one for each.

  Raises:
    ValueError: a function cannot be imported.
  """
  texts = (questions, references)
  known = {LENGTH: _length(context), **own}
  return {
    name: (weight, known[name] if name in known else _in_words(context, name, *texts))
    for name, weight in _taken(job, own).items()
  }


def shown(
  context: contexts.Context, score: rl.RewardFn, asked: Sequence[prompt_formats.Conversation]
) -> rl.RewardFn:
  """Returns a reward that reads other prompts than the policy is shown.

  Args:
    context: of the run.
    score: a reward of prompts and responses.
    asked: what it is shown of each of the stage's texts.
  """
  settings = dataclasses.replace(context.rows.settings, over_long="cut")  # every row has its place
  table = encode.prompts(asked, settings, context.rows.tokens)

  def own(rows, _, responses):
    prompts = parallel.put_batch(table.padded(rows, table.widths), context.mesh)
    return score(rows, prompts, responses)

  return own


def _taken(job: ml_collections.ConfigDict, own: Collection[str]) -> dict[str, float]:
  """Returns name → weight of the rewards of a stage; see `chosen`."""
  weights = dict(job.rewards)
  functions = [name for name in weights if ":" in name or name == LENGTH]
  named = [name for name in weights if name in own]
  if not weights or (not named and len(functions) < len(weights)):
    return dict.fromkeys(own, 1.0)
  return {name: float(weights[name]) for name in [*named, *functions]}


def try_functions(
  context: contexts.Context,
  section: str,
  fold: preferences.Fold,
  own: Collection[str],
  *,
  is_improver: bool = False,
) -> None:
  """Calls each function of a stage with two rows of the data, before anything is trained.

  They are rows of the data, since a function may look up what belongs to their prompts. Responses
  are the chosen ones, and references, which an improver has, the rejected ones.

  Args:
    section: the name of the section of RL.
    fold: the stage's rows.
    own: names of what the recipe rewards the stage with.
    is_improver: whether the stage has references.

  Raises:
    ValueError: a function fails, or returns what is no reward.
  """
  rows = fold.rows[:TRIED]
  prompts = [conversations.write(prompt) for prompt in fold.prompts[:TRIED]]
  responses = [row.chosen for row in rows]
  references = [row.rejected for row in rows] if is_improver else None
  mask = context.models.inference.responses(responses).mask
  for name in _taken(context.config[section], own):
    if ":" in name:
      try:
        _asked(name, (prompts, responses, references), np.asarray(mask))
      except ValueError as error:
        raise ValueError(f"{section}.rewards: {error}") from error


def problems(section: str, job: ml_collections.ConfigDict, own: Sequence[str]) -> Iterator[str]:
  """Yields what is wrong with the rewards of a section, imports included.

  A recipe's own are known by their names.
  """
  for pair in job.rewards:
    if isinstance(pair, Sequence) and any(map(callable, pair)):
      yield (
        f"{section}.rewards has {pair!r}; name the function as 'my_package.my_module:function', "
        "since later starts have to find it too"
      )
      return
    if not _is_pair(pair):
      yield (
        f"{section}.rewards has {pair!r}; give pairs of a name and a weight, as in "
        f'(("{own[0]}", 1.0), ("my_package.my_module:brevity", 0.1))'
      )
      return

  names = [name for name, _ in job.rewards]
  if len({*names}) < len(names):
    yield f"{section}.rewards names {names}; name each once"

  for name in names:
    if ":" not in name and name not in (*own, LENGTH):
      yield (
        f"{section}.rewards names {name!r}; use some of {', '.join((*own, LENGTH))}, or a Python "
        "function as my_package.my_module:function"
      )
    elif ":" in name:
      try:
        configurations.function(name)
      except ValueError as error:
        yield f"{section}.rewards: {error}"


def _length(context: contexts.Context) -> rl.RewardFn:
  """Returns the length of responses as a reward, its end counted; see LENGTH."""
  most = context.models.inference.response_length
  return lambda _, prompts, responses: jnp.minimum(responses.mask.sum(axis=1) / most, LONGEST)


def _is_pair(pair: Any) -> bool:
  if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
    return False
  name, weight = pair
  return isinstance(name, str) and isinstance(weight, numbers.Real) and math.isfinite(weight)


def _in_words(context: contexts.Context, name: str, questions, references) -> rl.RewardFn:
  """Returns a Python function of texts as a reward of what was sampled."""

  def score(rows: np.ndarray, _: Prompts, responses: Responses) -> Array:
    sampled = hosts.fetch(responses)
    prompts = [conversations.write(questions[row]) for row in rows]
    shown = references and [references[row] for row in rows]
    texts = (prompts, context.models.inference.words(sampled), shown)
    return parallel.put_batch(_asked(name, texts, np.asarray(sampled.mask)), context.mesh)

  return score


def _asked(name: str, texts: tuple, mask: np.ndarray) -> np.ndarray:
  """Returns what a function gives prompts, responses and references; see `_checked`."""
  function: Function = configurations.function(name)
  try:
    given = list(function(*texts))
  except Exception as error:  # whatever somebody else's function raises
    said = " ".join(str(error).split())
    problem = f"{name}: {type(error).__name__}: {said}{_place(error)}"
    raise ValueError(f"{problem}; {CALLED}") from error

  return _checked(name, given, mask)


def _place(error: Exception) -> str:
  """Returns where in a function an error was raised; "" where it could not be called."""
  last = traceback.extract_tb(error.__traceback__)[-1]
  return "" if last.filename == __file__ else f" (line {last.lineno} of {last.filename})"


def _checked(name: str, given: list, mask: np.ndarray) -> np.ndarray:
  """Returns what a function gave, Float[B] or Float[B R].

  Raises:
    ValueError: it is not one number per response or per token, or some are not finite.
  """
  lengths = mask.sum(axis=1).tolist()
  if len(given) != len(lengths):
    raise ValueError(
      f"{name} gave {len(given)} rewards for {len(lengths)} responses; return one for each"
    )

  try:
    # One by one: lists for tokens differ in length, and make no array together.
    by_response = [np.asarray(reward, np.float32) for reward in given]
  except (TypeError, ValueError) as error:
    raise ValueError(f"{name} gave a reward that is no number: {error}") from error

  for reward, array in zip(given, by_response, strict=True):
    if not np.isfinite(array).all():
      raise ValueError(f"{name} gave the reward {reward}: not finite")

  if all(reward.ndim == 0 for reward in by_response):
    return np.stack(by_response)
  for reward, length in zip(by_response, lengths, strict=True):
    if reward.shape != (length,):
      raise ValueError(
        f"{name} gave {reward.size} rewards for a response of {length} tokens; return a number for "
        "every response, or for every response a list with one for each of its tokens"
      )

  rewards = np.zeros(mask.shape, np.float32)
  # A mask picks row by row, in the order in which the lists stand.
  rewards[mask] = np.concatenate(by_response)
  return rewards
