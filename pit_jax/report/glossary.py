"""What the names on a page mean: systems, judges, and the method's own terms."""

from collections.abc import Iterator, Mapping

from pit_jax.report import cells, presentation, verdict

DATA = {
  "chosen": "the response that the data prefers",
  "rejected": "the response that the data puts second",
}
SHARED = {
  "Δ": "prompts that the first system wins less those that it loses, in percent of all prompts",
  "95% interval": "where Δ lies for 95 of 100 choices of as many prompts",
  "KL": "how far a model is from the one before RL, in nats per response",
}


def names(results: Mapping, method: presentation.Presentation) -> cells.Table:
  """Returns a row per name that the page uses, with what it stands for."""
  rows = [{"name": name, "about": about} for name, about in _named(results, method) if about]
  columns = cells.columns({"name": "name", "what it is": "about"})
  return cells.select("names", "What the names mean", rows, columns, words=2, is_printed=False)


def about(system: str, results: Mapping, method: presentation.Presentation) -> str:
  """Returns what a system is, as the results, the method or the data have it; "" if nobody says."""
  declared = method.systems.get(system)
  if given := results.get("about", {}).get(system):
    return given
  if declared:
    return declared.about
  if system in results.get("controls", ()):
    return "a second sample of another system, which has to be as good as it"
  return DATA.get(system, "")


def _named(results: Mapping, method: presentation.Presentation) -> Iterator[tuple[str, str]]:
  compared = [name for row in results["comparisons"] for name in (row["a"], row["b"])]
  # The pair that the run is about first, then in the order of the results.
  systems = [*results.get("headline", ()), *results["systems"], *compared]
  for system in dict.fromkeys(systems):
    yield system, about(system, results, method)

  judges = verdict.believed(results["comparisons"])
  for judge in judges:
    text = verdict.described(judge, results, method)
    yield judge, f"judge: {text.removeprefix(f'{judge}, ')}"

  for term, text in method.terms.items():
    if term not in judges:  # what a judge is was said
      yield term, text
  for term, text in SHARED.items():
    if results["comparisons"] and (term != "KL" or results.get("frontier")):
      yield term, text
