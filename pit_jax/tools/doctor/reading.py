"""Finding on how rows were read: by which schema, what it prefers, and what nothing reads."""

from pit_jax.data import conversations, preferences, published
from pit_jax.tools.doctor import findings

ADVICE = (
  "What is not read, no model sees: write it into the prompt where it belongs there. data.schema "
  "names what the columns are, data.columns what they are called."
)


def notes(loaded: preferences.PreferenceSet) -> findings.Finding:
  """Names the schemas that usable rows were read by, shows a row, and says what is to be known."""
  read = "".join(map(_said, loaded.schemas.items()))
  told = "; ".join(loaded.notes) or "every column that belongs to a prompt is read"
  figures = tuple(findings.Figure(note, rows) for note, rows in loaded.notes.items())
  return findings.Finding(
    "reading",
    "How rows were read",
    "warning" if loaded.notes else "ok",
    f"{read}{told}.",
    ADVICE if loaded.notes else "",
    figures,
    tuple(map(_shown, loaded.rows[:1])),
  )


def _said(counted: tuple[str, int]) -> str:
  name, rows = counted
  preferred = published.BY_NAME[name].preferred.replace("`", "'")
  return f"{findings.count(rows, 'row was/rows were')} read as {name}, preferred is {preferred}; "


def _shown(row: preferences.Preference) -> findings.Example:
  """Shows a row as training sees it."""
  prompt = findings.shorten(conversations.write(row.prompt))
  chosen, rejected = findings.shorten_beside((row.chosen, row.rejected))
  text = f"prompt: {prompt} | chosen: {chosen} | rejected: {rejected}"
  return findings.Example((row.place,), text)
