"""How far optimisation should go: proxy and judge against KL along training (Gao et al. 2022)."""

import dataclasses
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from pit_jax.evaluate import subject
from pit_jax.stages import frontier
from pit_jax.statistics import frontiers

# The flag of a training that it needs, and whether a configuration, as plain values, has it.
NEED = (
  "--config.frontier.checkpoints=5",
  lambda config: config.get("frontier", {}).get("checkpoints", 0) > 0,
)


def measure(run: subject.Subject) -> dict:
  """Returns the frontier of each chain that kept samples; nothing where none did.

  The first point of a chain is its SFT model, at a KL of 0. The proxy is what RL maximised, the
  judge the first one that scores and trained nothing; where there is none, only the proxy is seen.
  """
  judge = run.suite.independent
  rows = [
    _chain(run, name, chain, kept)
    for name, chain in run.chains.items()
    if (kept := frontier.read(run.context.workdir, chain.stages))
  ]

  return {"frontier": {"judge": judge and judge.name, "chains": rows}} if rows else {}


def pool(parts: Sequence[Mapping], prompts: Sequence[Hashable]) -> dict:
  """Returns the frontiers of several runs of one configuration as that of all their prompts.

  Parts are what `measure` found in each run, and prompts what tells those of each from others.
  """
  chains = []
  for rows in zip(*(part["chains"] for part in parts), strict=True):
    moments = {
      name: _joined([row["moments"][name] for row in rows], prompts) for name in rows[0]["moments"]
    }
    points = [{key: point[key] for key in ("stage", "step")} for point in rows[0]["points"]]
    chains.append(describe(rows[0]["chain"], rows[0]["proxy"], points, moments))

  return {"judge": parts[0]["judge"], "chains": chains}


def _joined(parts: Sequence[Mapping], prompts: Sequence[Hashable]) -> dict:
  groups: dict[Hashable, list[Mapping]] = {}
  for part, name in zip(parts, prompts, strict=True):
    groups.setdefault(name, []).append(part)
  return frontiers.join([frontiers.average(same) for same in groups.values()])


def describe(chain: str, proxy: str, points: Sequence[Mapping], known: Mapping) -> dict:
  """Returns a chain's points with means and intervals, its knee, and the moments they follow from.

  The proxy is the name of the reward that it maximised; the points are stage and step of each
  checkpoint, in order; known are the moments of "kl", "proxy" and, where there is one, "judge".
  """
  columns = {}
  for name, moments in known.items():
    columns |= {name: moments["mean"], f"{name}_ci95": frontiers.intervals(moments)}
  rows = [
    {**point, **{name: values[index] for name, values in columns.items()}}
    for index, point in enumerate(points)
  ]
  bend = frontiers.knee(**known) if "judge" in known else {"since": [], "knee": None}

  return {"chain": chain, "proxy": proxy, "points": rows, **bend, "moments": dict(known)}


def _chain(
  run: subject.Subject, name: str, chain: subject.Chain, kept: Sequence[frontier.Kept]
) -> dict:
  """Returns the frontier of one chain."""
  few = dataclasses.replace(run.suite, questions=frontier.questions(run.context))
  judge = run.suite.independent
  # All checkpoints of a chain improved the same drafts.
  drafts = kept[0].drafts
  first = chain.first(few, drafts)
  texts = [first, *(point.responses for point in kept)]

  values = {
    "kl": [np.zeros(len(first)), *(point.kl for point in kept)],
    "proxy": [chain.score(few.questions, answers, drafts) for answers in texts],
  }
  if judge:
    values["judge"] = [judge.score(few.questions, answers) for answers in texts]
  points = [{"stage": chain.start, "step": 0}]
  points += [{"stage": point.stage, "step": point.step} for point in kept]

  moments = {key: frontiers.moments(np.stack(rows)) for key, rows in values.items()}
  return describe(name, chain.proxy, points, moments)
