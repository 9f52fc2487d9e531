"""Samples kept along a chain of RL stages, for the frontier of reward against KL.

They are drawn on held-out prompts and written down with the KL they cost. Who judges them does so
once training is over: no score is taken here, nothing is learnt or selected.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Sequence

import jax
import numpy as np

from pit_jax.data import conversations, encode, preferences
from pit_jax.run import context as contexts
from pit_jax.run import workdirs
from pit_jax.training import writers
from pit_jax.types import Params, Prompts

FOLDER = "frontier"


@dataclasses.dataclass(frozen=True)
class Watch:
  """Callback that keeps samples along a chain of RL stages, after the last iteration too."""

  every: int  # RL iterations of a stage between two times
  # (stage, policy or improver, iterations of the stage) → what there is to log.
  keep: Callable[[str, Params, int], dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Kept:
  """The samples of one checkpoint."""

  stage: str
  step: int  # RL iterations of the whole chain
  drafts: list[str] | None  # what the improver was shown, one per prompt; None for the policy
  responses: list[str]  # in words
  # log π(y) − log π_SFT(y) of each, in nats, Float[N]; the mean estimates the KL per response.
  kl: np.ndarray


def watch(
  context: contexts.Context,
  steps: int,
  reference: Params,
  drafts: Callable[[Sequence[conversations.Prompt], jax.Array], list[str]] | None = None,
) -> Watch | None:
  """Returns how samples are kept along a chain of RL stages; None where none are asked for.

  The noise is the stage's and the step's own, so that training is what it is without, and a
  checkpoint met again after a restart leaves the same file.

  Args:
    steps: RL iterations of the whole chain.
    reference: the SFT model to which the KL is measured.
    drafts: (questions, key) → what an improver is to improve; None for a policy.
  """
  frontier = context.config.frontier
  if frontier.checkpoints < 1:
    return None

  # Nothing is dropped: all checkpoints answer the same prompts.
  settings = dataclasses.replace(context.rows.settings, over_long="cut")
  held_out = questions(context)

  @functools.cache  # drawn when they are first needed, which in a finished stage is never
  def asked() -> tuple[Prompts, dict[str, list]]:
    columns = {"prompt": [conversations.write(question) for question in held_out]}
    if drafts is None:
      shown = settings.formats["policy"].conversations(held_out)
    else:
      columns["draft"] = drafts(held_out, context.key("frontier drafts"))
      shown = settings.formats["improver"].conversations(held_out, columns["draft"])

    return encode.prompts(shown, settings)[:], columns

  def keep(stage: str, params: Params, step: int) -> dict[str, float]:
    prompts, columns = asked()
    key = jax.random.fold_in(context.key(f"{stage} frontier"), step)
    inference = context.models.inference
    temperature = context.config.rl.temperature
    sampled = inference.sample(params, prompts, key, temperature)
    responses, logprobs = sampled.responses, sampled.logprobs
    kl = (logprobs - inference.logprobs(reference, prompts, responses, temperature)).sum(axis=1)

    # Not in place: `asked` is cached and gives the same columns again.
    columns = {**columns, "response": inference.words(responses), "kl": kl.tolist()}
    rows = zip(*columns.values(), strict=True)
    lines = (json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) for row in rows)
    path = context.workdir / FOLDER / f"{stage}-{step}.jsonl"
    workdirs.write_text(path, "".join(f"{line}\n" for line in lines))
    return {"held_out/kl": float(kl.mean())}

  return Watch(every=-(-steps // frontier.checkpoints), keep=keep)


def questions(context: contexts.Context) -> list[conversations.Prompt]:
  """Returns the held-out prompts on which samples are kept."""
  rows = preferences.distinct(context.rows.folds["held_out"])[: context.config.frontier.prompts]
  return [row.prompt for row in rows]


def read(workdir: pathlib.Path, stages: Sequence[tuple[str, int]]) -> list[Kept]:
  """Returns what was kept, in order, along a chain of (stage, RL iterations)."""
  checkpoints = []
  begun = 0
  for stage, steps in stages:
    for step in range(1, steps + 1):
      # Only some steps have a file: those at which samples were kept.
      if rows := writers.read(workdir / FOLDER / f"{stage}-{step}.jsonl"):
        drafts = [row["draft"] for row in rows] if "draft" in rows[0] else None
        responses = [row["response"] for row in rows]
        kl = np.array([row["kl"] for row in rows])
        checkpoints.append(Kept(stage, begun + step, drafts, responses, kl))

    begun += steps

  return checkpoints
