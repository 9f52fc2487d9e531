"""Findings on texts that are not what they seem."""

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
  counted = ", ".join(f"{kind} in {len(rows):,}" for kind, rows in numbers.items())
  return findings.weighed(
    "disguised",
    "Texts that are not what they seem",
    len(concerned) / len(examined.rows),
    f"{findings.count(len(concerned), 'row holds/rows hold')} text that is not what it seems: "
    f"{counted}.",
    f"Training reads these as they are: {'; '.join(ADVICE[kind] for kind in numbers)}.",
    tuple(findings.Figure(kind, len(numbers.get(kind, ()))) for kind in suspects.KINDS),
    tuple(
      findings.Example(
        examined.places(row), f"{kind}: {examined.asked(row, 60)} | {examined.answers(row)}"
      )
      for kind, rows in numbers.items()
      for row in rows[: findings.EXAMPLES // len(numbers)]
    ),
    places=examined.places(*concerned),
    fine="Every prompt and every response is one text, or turns.",
  )
