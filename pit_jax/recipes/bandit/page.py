"""What the report of the bandit says: a sentence, a drawing, the figure of the paper, tables."""

from collections.abc import Mapping
from typing import NamedTuple

import matplotlib.figure
import numpy as np

from pit_jax.report import cells, diagram, palette, panels, presentation, tabular

SYSTEMS = {
  "teacher": presentation.System("the strong one, whose choices SFT imitates", palette.PURPLE),
  "student": presentation.System("the weak one, whose pairs the critic labels", "#94a3ba"),
  "sft": presentation.System("the imitation of the teacher", palette.RUST),
  "rlaif": presentation.System("the student after AI feedback", palette.TEAL),
}


class Claim(NamedTuple):
  """A claim, and what the run says of it."""

  outcome: str
  sentence: str


def sentence(results: Mapping) -> str:
  """Says what both policies earn, and where their order turns."""
  scores = {name: row["score"] for name, row in results["systems"].items()}
  turn = results["bandit"]["crossing"]
  turned = "" if turn is None else f" From a student around arm {turn:.1f} on, RLAIF earns more."
  return (
    f"Imitation of a teacher that earns {scores['teacher']:.1f} earns {scores['sft']:.1f}; a right "
    f"critic lifts a student from {scores['student']:.1f} to {scores['rlaif']:.1f}.{turned}"
  )


def claims(results: Mapping) -> tuple[list[Claim], str]:
  """Returns the paper's claim with its outcome, and what the same figures say against it."""
  scores = {name: row["score"] for name, row in results["systems"].items()}
  bandit = results["bandit"]
  gains = [row["gain"] for row in bandit["curve"]]
  holds = scores["sft"] > scores["rlaif"]
  fitted = bandit["learning_rates"]
  always = all((row["sft"] > row["rlaif"]) == holds for row in fitted)
  found = [
    Claim(
      "holds here" if holds else "does not hold here",
      "The paper's claim that imitation of a strong teacher beats AI feedback on a weak student's "
      f"pairs: {scores['sft']:.1f} to {scores['rlaif']:.1f}, and the order is "
      f"{'the same' if always else 'not the same'} at every learning rate tried.",
    ),
    Claim(
      "to be read with it",
      f"RLAIF adds {min(gains):.1f} to {max(gains):.1f} wherever the student stands: it moves a "
      "student within what the student does, however right the critic is. So the claim is about "
      "support, and which of the two earns more is decided by where the student stands.",
    ),
  ]

  remark = (
    "Both fits are under-trained at the paper's learning rate: with more of it imitation "
    "approaches its teacher and the learned reward goes on rising. Nothing is sampled, so no "
    "figure has an interval."
  )
  return found, remark


def columns(results: Mapping) -> list[diagram.Column]:
  """Returns the pipeline: what is written, what is fit to it, and the policy that comes of it."""
  config = results["config"]["bandit"]
  written = [
    [diagram.Box(("teacher", f"its peak is arm {config['teacher']:g}"))],
    [diagram.Box(("student", f"its peak is arm {config['student']:g}"))],
  ]
  fits = [
    [diagram.Box(("imitation", f"{config['sft_steps']:,} steps"))],
    [diagram.Box(("reward of pairs", "the larger arm wins", f"{config['reward_steps']:,} steps"))],
  ]
  ends = [
    [diagram.Box(("sft", "softmax of the logits"))],
    [diagram.Box(("rlaif", "student × exp(reward / β)"))],
  ]
  titles = ("Who chooses", "What is fitted", "Policy")
  return [
    diagram.Column(title, chains)
    for title, chains in zip(titles, (written, fits, ends), strict=True)
  ]


def rates(results: Mapping) -> cells.Table:
  """What both policies earn by learning rate."""
  shown = cells.columns(
    {"learning rate": "learning_rate", "sft": _score("sft"), "rlaif": _score("rlaif")}
  )
  note = "Of both fits, at as many steps. At 0.01, the paper's, neither fit has arrived."
  rows = results["bandit"]["learning_rates"]
  return cells.select("learning_rates", "By learning rate", rows, shown, note=note)


def prices(results: Mapping) -> cells.Table:
  """What RLAIF earns by the price of a nat."""
  shown = cells.columns({"β": "beta", "rlaif": _score("rlaif")})
  note = (
    "Price of a nat of KL to the student. However small it is, RLAIF ends at the best arm that the "
    "learned reward knows, whose peak is arm "
    f"{results['bandit']['reward_peak']}: beyond it the student has shown the critic little."
  )
  return cells.select(
    "betas", "By the price of a nat", results["bandit"]["betas"], shown, note=note
  )


def students(results: Mapping) -> cells.Table:
  """What RLAIF adds to each student."""
  names = ("student", "rlaif", "gain", "sft")
  shown = cells.columns({"peak": "peak"} | {name: _score(name) for name in names})
  note = "Gain: rlaif less its student. sft does not depend on the student."
  return cells.select("students", "By student", results["bandit"]["curve"], shown, note=note)


def _score(name: str):
  return lambda row: cells.fixed(row[name])


def _distributions(
  results: Mapping, method: presentation.Presentation, is_wide: bool
) -> matplotlib.figure.Figure:
  """Draws the four policies over the arms, and the learned reward."""
  bandit = results["bandit"]
  titles = ["probability of an arm", "learned reward of an arm"]
  figure, (left, right) = panels.make_panels(titles, is_wide, height=240, columns=2)
  for name, policy in bandit["distributions"].items():
    left.plot(np.arange(len(policy)), policy, color=method.colour(name), label=name)
  right.plot(bandit["reward"], color=palette.INK)
  right.axvline(bandit["reward_peak"], color=palette.INK, linewidth=0.9, linestyle=(0, (1, 2)))
  for axes in (left, right):
    axes.set_xlabel("arm, which is its reward")
    panels.few_ticks(axes)

  panels.shared_legend(figure, is_wide)
  return figure


def _curve(
  results: Mapping, method: presentation.Presentation, is_wide: bool
) -> matplotlib.figure.Figure:
  """Draws what RLAIF and SFT earn over what the student earns."""
  bandit = results["bandit"]
  figure, ((axes,),) = panels.make_figure(is_wide, 280)
  at = [row["peak"] for row in bandit["curve"]]
  for name, style in (("rlaif", "o-"), ("sft", "-"), ("student", "--")):
    values = [row[name] for row in bandit["curve"]]
    axes.plot(at, values, style, color=method.colour(name), label=name, markersize=5)
  if bandit["crossing"] is not None:
    axes.axvline(bandit["crossing"], color=palette.INK, linewidth=0.9, linestyle=(0, (1, 2)))

  axes.set_ylabel("expected reward")
  axes.set_xlabel("likeliest arm of the student")
  panels.few_ticks(axes)
  panels.shared_legend(figure, is_wide)
  return figure


def _about_curve(results: Mapping) -> str:
  caption = "Expected reward over the likeliest arm of the student."
  turn = results["bandit"]["crossing"]
  return (
    caption if turn is None else f"{caption} At the dotted line, {turn:.1f}, both earn the same."
  )


PAGE = presentation.Presentation(
  title="Imitation and AI feedback in a bandit (arXiv 2402.12366, fig. 6)",
  systems=SYSTEMS,
  sentence=sentence,
  claims=claims,
  diagram=columns,
  sections=(
    presentation.Section(
      "What the policies earn",
      (tabular.systems, rates, prices),
      (
        presentation.Figure(
          "distributions",
          "The four policies, and the reward that was fitted to the student's pairs; the dotted "
          "line is its peak.",
          _distributions,
        ),
      ),
    ),
    presentation.Section(
      "Where the student stands",
      (students,),
      (presentation.Figure("students", _about_curve, _curve),),
    ),
  ),
)
