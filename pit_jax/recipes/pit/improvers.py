"""What the improver's training took beyond M_PIT^SFT: with a gap model and RL, or by DPO alone."""

import statistics
from collections.abc import Mapping, Sequence

from pit_jax.recipes.pit import subject
from pit_jax.run import kinds
from pit_jax.training import writers

PHASES = ("generate", "score", "train")  # of a step, as metrics have their seconds


def measure(run: subject.Subject, texts: Mapping[str, Sequence[str]]) -> list[dict]:
  """Returns what improver_dpo and pit each took beyond improver_sft, of which both are made.

  Of each: `pairs`, whose labels it learnt from; `responses` that were sampled for it; `passes` of
  a row through a network, there 1 and there and back 3; the `seconds` of its steps, by the median
  of those that compiled nothing; and the `tokens` of its answers, per prompt. What the policy's
  chain took, R_P among it, is in none of them.

  Args:
    run: of recipe pit, with its ablations.
    texts: what each system answered.
  """
  curriculum = [f"pit_{stage.name}" for stage in run.context.config.curriculum]
  made_by = {
    "improver_sft": [],
    subject.DIRECT: ["dpo_improver"],
    "pit": ["gap_reward", "references", *curriculum],
  }
  return [
    {
      "system": name,
      **_effort(run, stages),
      "tokens": float(run.suite.lengths(texts[name]).mean()),
    }
    for name, stages in made_by.items()
  ]


def _effort(run: subject.Subject, names: Sequence[str]) -> dict[str, float | int]:
  """Returns what the stages of these names took together."""
  config = run.context.config
  recipe = run.context.recipe
  effort = {"pairs": 0, "responses": 0, "passes": 0.0, "seconds": 0.0}

  for stage in recipe.stages(config):
    if stage.name not in names:
      continue
    kind = kinds.kind_of(recipe, config, stage)
    job = kinds.job_of(config, stage)
    rows = len(run.context.rows.fold(kinds.fold_of(config, stage)).rows)
    steps = kinds.steps_of(config, stage, rows)
    seen = steps * job.batch_size if kind.learns else rows
    effort["pairs"] += rows if kind.reads_responses else 0
    effort["responses"] += 0 if kind.reads_responses else seen
    effort["passes"] += kind.passes(job) * seen
    effort["seconds"] += steps * _seconds(run, stage.name) if kind.learns else 0.0

  return effort


def _seconds(run: subject.Subject, name: str) -> float:
  """Returns the seconds of a stage's median step."""
  logged = writers.read(run.context.workdir / "metrics" / f"{name}.jsonl")
  # A stage of few steps may have compiled in each.
  running = [row for row in logged if not row.get("perf/time_compile")] or logged
  return statistics.median(
    sum(row.get(f"perf/time_{phase}", 0.0) for phase in PHASES) for row in running
  )
