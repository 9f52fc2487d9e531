"""Finding on how rows were read: columns that nothing reads, and what was chosen among several."""

from pit_jax.data import preferences
from pit_jax.tools.doctor import findings


def notes(loaded: preferences.PreferenceSet) -> findings.Finding:
  """Names what is to be known of how the usable rows were read."""
  figures = tuple(findings.Figure(note, rows) for note, rows in loaded.notes.items())
  if not figures:
    sentence = "Every column that belongs to a prompt is read."
    advice = ""
  else:
    sentence = f"{'; '.join(loaded.notes)}."
    advice = (
      "What is not read, no model sees: write it into the prompt where it belongs there. "
      "data.schema names what the columns are."
    )

  return findings.Finding(
    "reading", "How rows were read", "warning" if figures else "ok", sentence, advice, figures
  )
