"""Preferences between a chat model's own answers to instructions that a program checks.

A model answers instructions of `tasks.instructions` at several temperatures; simple edits mend one
constraint of a share of the answers; of all texts to a prompt two are drawn, and which is preferred
is drawn by the difference of their gold scores. The rows lie in WORKDIR/instructions.jsonl, what is
known of them in WORKDIR/record.json. Answers that are there are not asked for again.
"""

import functools
import hashlib
import json
import pathlib
import random
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence

import ml_collections

from pit_jax import config_keys, ranges
from pit_jax.evaluate import provenance
from pit_jax.recipes import recipe
from pit_jax.run import context as contexts
from pit_jax.run import made_rows, workdirs
from pit_jax.tasks import instructions

ROWS, RECORD = "instructions.jsonl", "record.json"
ALLOWED = {
  "own_pairs.temperatures": ranges.list_of("different numbers, 0 or more", ranges.FROM_ZERO, 2),
  "own_pairs.mended": ranges.SHARE,
  "own_pairs.noise": ranges.POSITIVE,
}


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
  """Asks the model, and writes rows and what is known of them.

  Raises:
    ValueError: the base cannot be asked, or of every prompt all its answers are alike.
  """
  context = contexts.build(config, workdir, RECIPE)
  prompts = [row.prompt for row in context.rows.data.rows]
  answers = {}
  for temperature in config.own_pairs.temperatures:
    asked = functools.partial(_asked, context, prompts, temperature)
    made = made_rows.once(context, f"rows/answers_{temperature}", asked)
    answers[temperature] = made.column("response")

  preferred = pairs(prompts, [*answers.values()], config)
  if not preferred:
    raise ValueError(
      f"of each of {len(prompts)} prompts all answers are alike; use higher "
      f"own_pairs.temperatures than {tuple(config.own_pairs.temperatures)}"
    )
  lines = "".join(f"{json.dumps(row)}\n" for row in preferred)
  workdirs.write_text(workdir / ROWS, lines)
  facts = measured(prompts, answers, preferred)
  facts["sha256"] = hashlib.sha256(lines.encode()).hexdigest()
  facts["command"] = provenance.command(sys.argv)
  workdirs.write_text(workdir / RECORD, json.dumps(facts, indent=2) + "\n")
  print(json.dumps(facts, indent=2))


def _asked(
  context: contexts.Context, prompts: Sequence[str], temperature: float
) -> Iterator[dict[str, str]]:
  """Yields the model's answer to every prompt."""
  asking = context.models.inference.reading(context.config.data.max_response_length)
  key = context.key(f"answers at {temperature}")
  texts = asking.answer(context.initial_policy(), prompts, key, temperature)
  for prompt, text in zip(prompts, texts, strict=True):
    yield {"prompt": prompt, "response": text}


def pairs(
  prompts: Sequence[str], answers: Sequence[Sequence[str]], config: ml_collections.ConfigDict
) -> list[dict]:
  """Returns preferences {prompt, chosen, rejected} between texts to the same prompt.

  Args:
    prompts: N instructions.
    answers: a few times N texts.
    config: with the share of answers beside which stands a mended one, and the noise of labels.
  """
  c = config.own_pairs
  made = []
  for prompt, *texts in zip(prompts, *answers, strict=True):
    rng = random.Random(f"preference {config.seed} {prompt}")
    edited = [instructions.mended(prompt, text, rng) for text in texts if rng.random() < c.mended]
    row = instructions.preference(prompt, [*texts, *edited], c.noise, rng)
    if row is not None:
      made.append(row)
  return made


def measured(
  prompts: Sequence[str], answers: Mapping[float, Sequence[str]], preferred: Sequence[dict]
) -> dict:
  """Returns what is known of answers and rows: gold, constraints that are failed, labels.

  `fails` is the share of answers with a constraint unmet, and by kind of constraint the share that
  is; `right` the share of rows of unlike gold whose chosen text has the higher one.
  """
  golds = {t: statistics.fmean(instructions.golds(prompts, some)) for t, some in answers.items()}
  every = [(x, y) for some in answers.values() for x, y in zip(prompts, some, strict=True)]
  fails = [not all(instructions.checks(*pair).values()) for pair in every]
  counts = instructions.failing(*zip(*every, strict=True))
  ahead = [
    instructions.gold(row["prompt"], row["chosen"])
    - instructions.gold(row["prompt"], row["rejected"])
    for row in preferred
  ]
  unlike = [gap > 0 for gap in ahead if gap]
  return {
    "prompts": len(prompts),
    "rows": len(preferred),
    "gold": {str(temperature): value for temperature, value in golds.items()},
    "fails": statistics.fmean(fails),
    "fails_by_kind": {name: failed / total for name, (failed, total) in sorted(counts.items())},
    "right": statistics.fmean(unlike) if unlike else None,
    "alike": 1 - len(unlike) / len(preferred),
  }


def problems(config: ml_collections.ConfigDict) -> Iterator[str]:
  """Yields why the prompts cannot be those of the task, or the answers not be told apart."""
  temperatures = config.own_pairs.temperatures
  if len({*temperatures}) < len(temperatures):
    yield f"own_pairs.temperatures={tuple(temperatures)} has one twice; use different ones"
  if config.data.source != config_keys.INSTRUCTIONS:
    yield (
      f"data.source={config.data.source!r}; the prompts are those of {config_keys.INSTRUCTIONS!r}"
    )


RECIPE = recipe.Recipe(
  name="own_pairs",
  kinds={},
  stages=lambda config: (),
  run=run,
  allowed=ALLOWED,
  problems=problems,
)
