"""Writers of the embedded task about flaws: who lists them, who classes one, who acts on them.

What they are shown is a question and, beside it, a letter and what is said of it. Key and
temperature make no difference; samples are functions of who writes, seed and what is shown.
"""

from pit_jax.data import conversations, critiques, units
from pit_jax.feedback import writers
from pit_jax.tasks import faults


def finder(name: str, finds: faults.Finder, form: units.Form, seed: int = 0) -> writers.Writer:
  """Returns a critic that lists the flaws of the last text it is shown.

  Raises, where it is asked:
    ValueError: a conversation is no question of the embedded task.
  """

  def listed(one, sample):
    found = finds.find(conversations.said(one.prompt), one.texts[-1], f"{seed} {sample}")
    return form.write(
      units.Unit(fault.place, fault.flaw, fault.severity, fault.suggestion) for fault in found
    )

  return _writer(name, listed)


def checker(
  name: str,
  checks: faults.Checker,
  form: units.Form,
  grades: critiques.Form,
  seed: int = 0,
) -> writers.Writer:
  """Returns a meta-critic that gives the unit it is shown last the best grade or the worst.

  Raises, where it is asked:
    ValueError: a conversation is no question of the embedded task.
  """

  def graded(one, sample):
    letter, said = one.texts[-2:]
    places = [unit.at for unit in form.read(said).units]
    asked = (conversations.said(one.prompt), letter, places[0] if places else "", said)
    is_accepted = checks.accept(*asked, f"{seed} {sample}")
    score = grades.highest if is_accepted else grades.lowest
    return grades.write(critiques.Critique(score=score))

  return _writer(name, graded)


def reviser(name: str, revises: faults.Reviser, form: units.Form, seed: int = 0) -> writers.Writer:
  """Returns who acts on the units in the text shown last, upon the letter shown before it.

  Raises, where it is asked:
    ValueError: a conversation is no question of the embedded task.
  """

  def revised(one, sample):
    letter, said = one.texts[-2:]
    # Of two units about one place the first counts.
    changes = {unit.at: unit.suggestion or "" for unit in reversed(form.read(said).units)}
    return revises.revise(conversations.said(one.prompt), letter, changes, f"{seed} {sample}")

  return _writer(name, revised)


def _writer(name, written) -> writers.Writer:
  def answer(asked, key, temperature, samples, top_p):
    del key, temperature, top_p
    return writers.Written([[written(one, sample) for sample in range(samples)] for one in asked])

  return writers.Writer(name, answer)
