"""What the report says of reward models: their pipeline, their tables, and a sentence."""

from collections.abc import Mapping

from pit_jax.recipes.reward import figures, tables
from pit_jax.recipes.rlhf import page
from pit_jax.report import diagram, presentation, tabular


def columns(results: Mapping) -> list[diagram.Column]:
  """Returns the one column of both models."""
  chains = [
    page.box(results, "reward", "R_P reward", "y_w above y_l"),
    page.box(results, "gap_reward", "R_PIT gap reward", "quality of y_1 − y_2"),
  ]
  return [diagram.Column("Fold 2", chains, diagram.rows(results, "reward"))]


def sentence(results: Mapping) -> str:
  """Says how often the models meet the labels of the first kind of pairs, and length alone does."""
  rows = results["labels"]["accuracy"]
  longer, *models = [row for row in rows if row["pairs"] == rows[0]["pairs"]]

  def share(row: Mapping, figure: str) -> str:
    low, high = (100 * bound for bound in row[f"{figure}_ci95"])
    return f"{row['model']} on {100 * row[figure]:.1f}% (95% interval {low:.1f} to {high:.1f})"

  def said(figure: str) -> str:
    return " and ".join(share(row, figure) for row in models)

  is_balanced = longer["balanced"] is not None
  alone = f" Where length is no help, {said('balanced')} (chance: 50%)." if is_balanced else ""
  return (
    f"Of {longer['n']:,} held-out pairs ({longer['pairs']}) {said('accuracy')} say which was "
    f"preferred, {share(longer, 'accuracy')}.{alone}"
  )


PAGE = presentation.Presentation(
  sentence=sentence,
  diagram=columns,
  sections=(
    presentation.Section(
      tabular.MODELS.title,
      (*tables.LABELS, *tabular.MODELS.tables, tables.gap_order),
      (figures.ORDER,),
    ),
    tabular.TRAINING,
  ),
)
