"""What to do about a run that shows no gain: what its stages and prompts say of why."""

from collections.abc import Iterator, Mapping

from pit_jax.report import cells, curves, presentation, rewarded, training_tables, verdict

FEW = 20  # steps below which a stage hardly learns
LEARNT = 0.1  # deviations by which a reward rises that was learnt at all
NEAR = 0.1  # nats below which RL has left its policy where it was
FAR = 30.0  # and above which it has left its language
RIGHT = 0.6  # share of pairs below which a reward model is little better than chance
LOST = 5.0  # nats that the chosen responses may lose


def of_run(results: Mapping, method: presentation.Presentation) -> list[str]:
  """Returns what may be done, the likeliest cause first; nothing for a run that shows a gain."""
  row = verdict.principal(results)
  checked = verdict.gate(results, method)
  is_shut = checked is not None and not checked["passed"]
  if row is None or (verdict.direction(row) > 0 and not is_shut):
    return []

  found = [
    sentence
    for name, stage in results.get("stages", {}).items()
    for sentence in _stage(name, stage, results, method)
  ]
  found += _rewards(results)
  return [*found, *_prompts(results, row)] or [GENERAL]


GENERAL = (
  "No stage looks wrong by its own figures. Try another seed, a longer or stronger optimisation of "
  "the last stage, and read the worst answers below."
)


def _stage(
  name: str, stage: Mapping, results: Mapping, method: presentation.Presentation
) -> Iterator[str]:
  """Yields what is to be done about one stage."""
  words = method.stages.get(name, f"Stage {name}")
  is_rl = stage["kind"] == "rl"
  groups = method.together(results)
  names = next((list(group) for group in groups if name in group), [name])
  steps = sum(results["stages"][each].get("steps", 0) for each in names)
  if 0 < steps < FEW and name == names[0]:
    yield _too_few(names, steps, words, is_rl, results)

  if is_rl:
    # So few steps move nothing, whatever the rate and β are.
    yield from _learnt(words, stage) if steps >= FEW else ()
    yield from _strayed(words, stage)
  elif lost := _lost(stage):
    yield (
      f"{words} took {lost:.1f} nats from the log-probability of chosen responses: raise "
      f"--config.{stage.get('section') or 'dpo'}.sft_coefficient or .beta."
    )


def _too_few(names: list[str], steps: int, words: str, is_rl: bool, results: Mapping) -> str:
  """Says how to give more steps to stages that are one optimisation."""
  stages = [results["stages"][name] for name in names]
  # Stages of one section are given more by one key.
  keys = dict.fromkeys(f"--config.{place}.steps" for stage in stages if (place := _place(stage)))
  warmup = _warmup(results, stages[0].get("section", "")) if is_rl else 0
  its, it = ("their", "them") if len(names) > 1 else ("its", "it")
  if len(names) > 1:
    words = f"Stages {' and '.join(names)}"

  alone = f", of which {warmup:,} trained {its} value model alone" if warmup else ""
  unit = "step" if steps == 1 else "steps"
  flags = " and ".join(keys) or f"{its} steps"
  return f"{words} had {steps:,} {unit}{alone}: give {it} more by {flags}."


def _place(stage: Mapping) -> str:
  """Returns the part of the configuration that says how a stage trains."""
  return stage.get("part") or stage.get("section", "")


def _warmup(results: Mapping, section: str) -> int:
  job = results.get("config", {}).get(section) or {}
  return int(job.get("value_warmup") or 0) if isinstance(job, Mapping) else 0


def _learnt(words: str, stage: Mapping) -> Iterator[str]:
  """Yields what to do about a policy that stayed where it was, or whose reward did not rise."""
  kl = training_tables.ends(stage["curve"].get(curves.KL, ()))
  key = f"--config.{_place(stage) or 'rl'}"
  if kl and kl[1] < NEAR:
    yield (
      f"{words} ended {cells.fixed(kl[1])} nats from where it began, so it hardly learnt: raise "
      f"{key}.learning_rate, or lower {key}.kl_coefficient."
    )
  elif change := _change(stage):
    yield f"{words} {change}: try another {key}.learning_rate."


def _change(stage: Mapping) -> str:
  """Returns what became of what a stage maximised, where it did not rise as it should."""
  points = stage["curve"].get(curves.SCORE, ())
  measured = training_tables.rise(points)
  if measured is None:
    return ""
  rose, noise = measured
  unit = rewarded.unit(stage)
  if rose > noise and not (unit and rose < LEARNT):
    return ""

  first, last = training_tables.ends(points)
  told = rewarded.words(stage)
  what = f"its reward, {told}" if told else "its own reward"
  numbers = f"{cells.fixed(first)} → {cells.fixed(last)}{f' {unit}' if unit else ''}"
  noisy = f"{numbers}, of which ±{cells.fixed(noise)} may be noise"
  if rose > noise:
    return f"raised {what} by little ({noisy})"
  return f"{'lowered' if rose < -noise else 'did not measurably raise'} {what} ({noisy})"


def _strayed(words: str, stage: Mapping) -> Iterator[str]:
  """Yields what to do about a policy that went too far."""
  kl = training_tables.ends(stage["curve"].get(curves.KL, ()))
  key = f"--config.{_place(stage) or 'rl'}"
  if kl and kl[1] > FAR:
    yield (
      f"{words} ended {cells.fixed(kl[1], 0)} nats from where it began, too far to keep its "
      f"language: raise {key}.kl_coefficient."
    )


def _lost(stage: Mapping) -> float:
  """Returns the nats that chosen responses lost on average, where they lost too many; else 0."""
  pair = training_tables.ends(stage.get("curve", {}).get("chosen_logprob", ()))
  return pair[0] - pair[1] if pair and pair[0] - pair[1] > LOST else 0.0


def _rewards(results: Mapping) -> Iterator[str]:
  for name, facts in results.get("reward_models", {}).items():
    accuracy = facts.get("accuracy")
    if accuracy is not None and accuracy < RIGHT:
      yield (
        f"{name} is right on {cells.percent(accuracy)} of the pairs held back from it, and chance "
        "on 50%: train it longer or on more rows before anything learns from it."
      )


def _prompts(results: Mapping, row: Mapping) -> Iterator[str]:
  """Yields how many prompts would have told more, where the interval covers 0."""
  low, high = row["ci95"]
  detectable = row.get("detectable")
  if low <= 0 <= high and detectable:
    yield (
      f"The {verdict.prompts(row):,} prompts find a Δ of {cells.fixed(detectable, 1)}% in 80% of "
      "experiments: a smaller one needs more rows, of which --config.data.held_out sets a share "
      "aside, and --config.evaluation.prompts."
    )
