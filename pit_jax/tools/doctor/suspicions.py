"""Findings on texts that are not what they seem."""

import numpy as np

from pit_jax.data import suspects
from pit_jax.data import text as tokenizers
from pit_jax.tools.doctor import cases, findings

ADVICE = {
  suspects.LISTED: "write conversations as lists of {role, content}, which JSON has itself",
  suspects.TEMPLATE: "take out what a template wrote: training writes its own around every text",
  suspects.LABELLED: "write dialogues as lists of {role, content}, and end responses where a label "
  "of the user begins",
}


def disguised(examined: cases.Cases, words: tokenizers.Tokenizer) -> findings.Finding:
  """Finds message lists as texts, marks of a chat template, and dialogues inside one turn."""
  numbers = suspects.count(examined.rows, suspects.spelled(words))
  concerned = sorted({row for rows in numbers.values() for row in rows})
  sentence = "Every prompt and every response is one text, or turns."

  if numbers:
    counted = [f"{kind} in {len(rows):,}" for kind, rows in numbers.items()]
    sentence = (
      f"{findings.count(len(concerned), 'row holds/rows hold')} text that is not what it seems: "
      f"{', '.join(counted)}."
    )

  advice = [ADVICE[kind] for kind in numbers]
  return findings.Finding(
    "disguised",
    "Texts that are not what they seem",
    findings.severity(len(concerned) / len(examined.rows)),
    sentence,
    f"Training reads these as they are: {'; '.join(advice)}." if advice else "",
    tuple(findings.Figure(kind, len(numbers.get(kind, ()))) for kind in suspects.KINDS),
    tuple(
      findings.Example(examined.places(row), f"{kind}: {_shown(examined, row)}")
      for kind, rows in numbers.items()
      for row in rows[: findings.EXAMPLES // len(numbers)]
    ),
    places=examined.places(*np.array(concerned, int)),
  )


def _shown(examined: cases.Cases, row: int) -> str:
  pair = examined.rows[row]
  texts = (examined.prompts[examined.prompt[row]], pair.chosen, pair.rejected)
  return " | ".join(findings.shorten(text, 60) for text in texts)
