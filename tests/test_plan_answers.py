"""What the compiler said is found again, under all that it depends on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pit_jax.tools.plan import answers


def lowered(scale):
  return jax.jit(lambda x: (x * scale) @ x).lower(jax.ShapeDtypeStruct((8, 8), jnp.float32))


def chips():
  return np.array(jax.devices()[:1])


def test_an_answer_is_found_again_in_its_folder(tmp_path, monkeypatch):
  first = answers.ask(lowered(2.0), chips(), tmp_path)
  assert first.error is None and first.arguments == 8 * 8 * 4 and "ENTRY" in first.text
  assert first.total >= 2 * first.arguments
  monkeypatch.setattr(answers, "_compiled", None)  # nothing more can be compiled
  assert answers.ask(lowered(2.0), chips(), tmp_path) == first


@pytest.mark.parametrize("change", ["program", "chips", "flags", "compiler"])
def test_whatever_changes_the_program_is_asked_anew(tmp_path, monkeypatch, change):
  answers.ask(lowered(2.0), chips(), tmp_path)
  monkeypatch.setattr(answers, "_compiled", lambda _: answers.Answer(1, 2, "new"))
  asked, on = lowered(2.0), chips()
  if change == "program":
    asked = lowered(3.0)
  elif change == "chips":
    on = np.array(jax.devices()[1:2])
  elif change == "flags":
    monkeypatch.setenv("LIBTPU_INIT_ARGS", "--another=1")
  else:
    monkeypatch.setattr(answers, "_version", lambda name: "another")
  assert answers.ask(asked, on, tmp_path).text == "new"
  assert len([*tmp_path.iterdir()]) == 2


def test_a_program_that_cannot_be_compiled_leaves_nothing(tmp_path, monkeypatch):
  def fail(_):
    raise KeyboardInterrupt

  monkeypatch.setattr(answers, "_compiled", fail)
  with pytest.raises(KeyboardInterrupt):
    answers.ask(lowered(2.0), chips(), tmp_path)
  assert not [*tmp_path.iterdir()]


def test_a_program_that_does_not_fit_says_what_it_wants(tmp_path, monkeypatch):
  def fail(_):
    raise jax.errors.JaxRuntimeError(
      "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
      "temporaries (18.64G) exceeds available HBM (15.75G).\nMore lines"
    )  # a TPU compiler's own words

  monkeypatch.setattr(jax.stages.Lowered, "compile", fail)
  answer = answers.ask(lowered(2.0), chips(), tmp_path)
  assert answer.total == int(18.64 * 2**30) and answer.error.endswith("(15.75G).")
  assert answers.ask(lowered(2.0), chips(), tmp_path) == answer
