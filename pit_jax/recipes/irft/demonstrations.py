"""Demonstrations of an expert: as what is imitated, and as what samples are told from."""

import math
from collections.abc import Iterator, Sequence

import ml_collections

from pit_jax import ranges
from pit_jax.data import preferences
from pit_jax.evaluate import subject
from pit_jax.feedback import ceilings, named, writers
from pit_jax.run import context as contexts
from pit_jax.run import made_rows
from pit_jax.stages import feedback
from pit_jax.statistics import resampling
from pit_jax.types import Params

ALLOWED = {
  "demonstrations.expert": ranges.SAID,
  "demonstrations.temperature": ranges.POSITIVE,
  "demonstrations.most_failed": ranges.SHARE,
}


def prompts(context: contexts.Context, fold: str) -> preferences.Fold:
  """Returns the rows of a fold, each prompt once."""
  whole = context.rows.fold(fold)
  return preferences.Fold(*map(tuple, map(preferences.distinct, (whole.rows, whole.validation))))


def completions(context: contexts.Context) -> feedback.Completions:
  """Returns the demonstrations: the expert's answers to the prompts that are imitated."""
  c = context.config
  expert = named.build(context, "writers", c.demonstrations.expert)
  asked = prompts(context, c.sft.fold)
  most_failed = c.demonstrations.most_failed
  return feedback.completions(context, "demonstrations", asked, expert, most_failed=most_failed)


def asks(config: ml_collections.ConfigDict, rows: ceilings.Rows) -> list[ceilings.Asked]:
  """Returns what the expert is asked; see `recipe.Recipe.asks`."""
  count = ceilings.prompts(rows, config.sft.fold)
  return [ceilings.Asked("writers", config.demonstrations.expert, count)]


def over_samples(
  context: contexts.Context,
  name: str,
  fold: preferences.Fold,
  answers: feedback.Completions,
  sampler: Params,
) -> tuple[preferences.Fold, contexts.Context]:
  """Returns pairs of a demonstration preferred to a fresh sample, and the context of their stages.

  Args:
    context: of the run.
    name: of the stage that learns from them; the samples lie in WORKDIR/rows/NAME_samples.jsonl.
    fold: whose prompts are answered.
    answers: the demonstrations.
    sampler: the policy that is sampled.
  """
  student = writers.model(name, context.models.inference, sampler)
  how = {"temperature": context.config.demonstrations.temperature, "most_failed": 0.0}
  samples = feedback.completions(context, f"{name}_samples", fold, student, **how)
  pairs = feedback.pairs(answers, samples)
  preferred = preferences.Fold(*(
    tuple(preferences.Preference(pair.prompt, pair.a, pair.b) for pair in pairs[part])
    for part in feedback.PARTS
  ))  # fmt: skip
  return preferred, made_rows.depending(context, samples.made)


def is_alike(accuracy: float, pairs: int) -> bool:
  """Returns whether samples cannot be told from demonstrations: accuracy ≤ ½ + one standard error.

  It is a reward's, explicit or implicit, on so many pairs of the validation part; the error is
  ½ / √pairs.
  """
  return accuracy <= 0.5 + 0.5 / math.sqrt(max(pairs, 1))


def measure(run: subject.Policies) -> dict:
  """Returns how likely each system finds the demonstrations that validate.

  No stage learns from these. `nll` is the mean of −log p(y | x), without the end of y, in nats per
  demonstration; `rise` is by how much more it is than for `sft`, with an interval over them.
  """
  held = completions(run.context).parts["validation"]
  questions, answers = zip(*held, strict=True)
  ask = run.context.models.inference.likelihoods
  surprise = {name: -ask(params, questions, answers) for name, params in run.models.items()}

  rows = []
  for system, nats in surprise.items():
    rises = nats - surprise["sft"]
    rise = float(rises.mean())
    # Of a single demonstration there is no telling what others would give.
    error = float(rises.std(ddof=1)) / math.sqrt(len(rises)) if len(rises) > 1 else math.inf
    bounds = [rise - resampling.Z * error, rise + resampling.Z * error]
    known = {"ci95": bounds} if math.isfinite(error) else {}
    rows.append({"system": system, "nll": float(nats.mean()), "rise": rise, **known})
  return {"demonstrations": rows}


def problems(config: ml_collections.ConfigDict, sections: Sequence[str]) -> Iterator[str]:
  """Yields what is wrong with the expert or with whose rows sections see, and who lacks to judge.

  Args:
    config: of a run.
    sections: those that learn from pairs of demonstrations and samples.
  """
  there = config.get("feedback", {}).get("writers", {})
  expert = config.demonstrations.expert
  if expert not in there:
    names = ", ".join(there) or "none"
    yield (f"demonstrations.expert={expert!r}; use a name of feedback.writers, which has {names}")
  for name in sections:
    if config[name].fold != config.sft.fold:
      yield (
        f"{name}.fold={config[name].fold!r}: demonstrations are of sft.fold={config.sft.fold!r}; "
        "use the same fold"
      )

  yield from subject.unjudged(config)
