"""Figures of training: what reinforcement learning saw, and every curve of other stages."""

import itertools
from collections.abc import Mapping, Sequence

import matplotlib.axes
import matplotlib.figure
import numpy as np

from pit_jax.report import palette, panels, presentation, rewarded

# Metrics of reinforcement learning.
SCORE = "objective/score"
KL = "objective/kl"
LENGTH = "tokens/response_length"
REINFORCED = {  # in the order of the panels → their titles
  SCORE: "reward, deviations",
  KL: "KL, nats per response",
  LENGTH: "length, tokens",
}
UNITS = {  # of other metrics; any other is a number
  "loss": "nats",
  "accuracy": "share of pairs",
  "margin": "nats",
  "chosen_logprob": "nats",
  "rejected_logprob": "nats",
}
TINTS = (palette.BLUE, palette.TEAL, palette.RUST, palette.PURPLE, *palette.OTHERS)


def reinforced(results: Mapping) -> list[str]:
  """Returns the stages of reinforcement learning that have a curve, in their order."""
  stages = results.get("stages", {}).items()
  return [name for name, stage in stages if {SCORE, KL} & stage.get("curve", {}).keys()]


def supervised(results: Mapping) -> list[tuple[str, str]]:
  """Returns every other stage with each of its curves that has a point."""
  learnt = reinforced(results)
  return [
    (name, metric)
    for name, stage in results.get("stages", {}).items()
    for metric, points in stage.get("curve", {}).items()
    if points and name not in learnt
  ]


def _reinforcement(results: Mapping, _, is_wide: bool) -> matplotlib.figure.Figure | None:
  """Reward, KL and length of every RL stage; what no stage saw is not here."""
  names = reinforced(results)
  stages = results.get("stages", {})
  titles = _panels(results)
  keys = [key for key in titles if any(stages[name]["curve"].get(key) for name in names)]
  if not keys:
    return None

  figure, drawn = panels.make_panels([titles[key] for key in keys], is_wide)
  for axes, key in zip(drawn, keys, strict=True):
    for name, tint in zip(names, itertools.cycle(TINTS), strict=False):
      _curve(axes, stages[name]["curve"].get(key, ()), tint, name)
      _held(axes, stages[name].get("validation", {}).get(key, ()), tint)
    axes.set_xlabel("iteration of its stage")
    panels.few_ticks(axes)
    panels.whole_steps(axes)
    if key == KL:
      axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))

  panels.shared_legend(figure, is_wide)
  return figure


def _panels(results: Mapping) -> dict[str, str]:
  """Returns metric of RL → the title of its panel; each reward of a sum has its own."""
  stages = [results["stages"][name] for name in reinforced(results)]
  titles = dict(REINFORCED)
  if not all(rewarded.is_single(stage) for stage in stages):
    told = {rewarded.words(stage) for stage in stages}
    titles[SCORE] = f"reward: {told.pop()}" if len(told) == 1 else "reward, as each stage has it"

  for stage in stages:
    rewards = rewarded.of_stage(stage)
    for name, facts in rewards.items() if len(rewards) > 1 else ():
      unit = "" if rewarded.is_function(name) else ", deviations"
      titles[f"{rewarded.PREFIX}{name}"] = f"{facts['called']}{unit}"

  return titles


def _losses(results: Mapping, _, is_wide: bool) -> matplotlib.figure.Figure | None:
  """A panel for each curve of each stage that reinforcement learning is not."""
  shown = supervised(results)
  if not shown:
    return None
  titles = [_title(name, metric) for name, metric in shown]
  figure, drawn = panels.make_panels(titles, is_wide, height=170)

  for axes, (name, metric) in zip(drawn, shown, strict=True):
    stage = results["stages"][name]
    _curve(axes, stage["curve"][metric], palette.BLUE, "batches that it learns from")
    _held(axes, stage.get("validation", {}).get(metric, ()), palette.RUST)
    axes.set_xlabel("step")
    panels.few_ticks(axes)
    panels.whole_steps(axes)

  panels.shared_legend(figure, is_wide)
  return figure


def _title(name: str, metric: str) -> str:
  plain = metric.rpartition("/")[2]
  unit = f", {UNITS[plain]}" if plain in UNITS else ""
  return f"{name}: {plain.replace('_', ' ')}{unit}"


def _curve(axes: matplotlib.axes.Axes, points: Sequence, tint: str, label: str) -> None:
  if len(points):
    # A single point is no line.
    marker = "o" if len(points) == 1 else ""
    axes.plot(*np.array(points, dtype=float).T, color=tint, label=label, marker=marker)


def _held(axes: matplotlib.axes.Axes, points: Sequence, tint: str) -> None:
  """Draws what was measured on rows that nothing learns from."""
  if len(points):
    style = {"markerfacecolor": palette.WHITE, "markersize": 7, "linewidth": 1, "zorder": 3}
    axes.plot(*np.array(points, dtype=float).T, "D:", color=tint, label="rows held back", **style)


def _about_reinforcement(results: Mapping) -> str:
  caption = (
    "What reinforcement learning saw along its iterations: its reward, the KL that it paid, and "
    "how long responses became."
  )
  return caption + _about_diamonds(results, reinforced(results))


def _about_losses(results: Mapping) -> str:
  names = [name for name, _ in supervised(results)]
  return "Curves of the supervised stages." + _about_diamonds(results, names)


def _about_diamonds(results: Mapping, names: Sequence[str]) -> str:
  held = any(results["stages"][name].get("validation") for name in names)
  return " Diamonds: measured on rows that nothing learns from." if held else ""


REINFORCEMENT = presentation.Figure("reinforcement", _about_reinforcement, _reinforcement)
LOSSES = presentation.Figure("losses", _about_losses, _losses)
