"""Finding on how rows were read: columns that nothing reads, and what was chosen among several."""

from pit_jax.data import preferences
from pit_jax.tools.doctor import findings


def notes(loaded: preferences.PreferenceSet) -> findings.Finding:
  """Names what is to be known of how the usable rows were read."""
  title = "How rows were read"
  if not loaded.notes:
    sentence = "Every column that belongs to a prompt is read."
    return findings.Finding("reading", title, "ok", sentence)
  advice = (
    "What is not read, no model sees: write it into the prompt where it belongs there. "
    "data.schema names what the columns are."
  )

  figures = tuple(findings.Figure(note, rows) for note, rows in loaded.notes.items())
  sentence = f"{'; '.join(loaded.notes)}."
  return findings.Finding("reading", title, "warning", sentence, advice, figures)
