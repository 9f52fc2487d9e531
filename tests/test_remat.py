"""Activations and logits computed again instead of kept: the same numbers, in less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from pit_jax.models import architecture, remat
from pit_jax.rollout import scoring
from pit_jax.stages import objectives
from pit_jax.types import Demonstrations, Packed, Preferences

PROMPT_LENGTHS, RESPONSE_LENGTHS = [4, 2, 3, 1], [5, 1, 3, 4]
P, R = 4, 5


def demonstrations():
  asked, said = tiny.prompts(0, PROMPT_LENGTHS, P), tiny.responses(1, RESPONSE_LENGTHS, R)
  return Demonstrations(prompts=asked, responses=said)


def packed():
  tokens = tiny.ids(2, 2, 9)
  ends = np.array([[4, 4, 4, 4, 9, 9, 9, 9, 9], [3, 3, 3, 6, 6, 6, 9, 9, 9]])
  return Packed(
    tokens=tokens,
    mask=np.ones((2, 9), bool),
    ends=ends,
    is_response=np.array([[0, 0, 1, 1, 0, 1, 1, 1, 1], [0, 1, 1, 0, 0, 1, 0, 1, 1]], bool),
  )


def preferences():
  return Preferences(demonstrations().prompts, *(demonstrations().responses,) * 2)


def gradient(kind, objective, batch, **shape):
  """Returns loss, metrics and gradients of a compiled objective, and the program."""
  model = kind(**shape)
  params = jax.tree.map(jnp.asarray, tiny.parameters(model, seed=3))
  loss = jax.value_and_grad(objective(model), has_aux=True)
  program = jax.jit(loss).lower(params, {}, batch, jax.random.key(0)).compile()
  return program(params, {}, batch, jax.random.key(0)), program


@pytest.mark.parametrize("which", remat.POLICIES)
@pytest.mark.parametrize(
  "kind, objective, make",
  [
    (tiny.language, objectives.imitation, demonstrations),
    (tiny.language, objectives.imitation, packed),
    (tiny.scalar, objectives.preference_pairs(), preferences),
  ],
  ids=["demonstrations", "packed", "preferences"],
)
def test_losses_and_gradients_are_the_same(kind, objective, make, which, monkeypatch):
  batch = jax.tree.map(jnp.asarray, make())
  kept, _ = gradient(kind, objective, batch, remat="none")
  monkeypatch.setattr(scoring, "LOGITS", 100)  # of one or two places
  again, _ = gradient(kind, objective, batch, remat=which)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), again, kept)


def test_the_logits_of_all_places_never_exist_at_once(monkeypatch):
  rows, length, vocabulary = 4, 128, 5000
  batch = Demonstrations(
    prompts=tiny.prompts(0, [3] * rows, 4), responses=tiny.responses(1, [length] * rows, length)
  )
  batch = jax.tree.map(jnp.asarray, batch)
  logits, used = rows * length * vocabulary, []
  for pieces in (1, 32):
    monkeypatch.setattr(scoring, "LOGITS", logits // pieces)
    _, program = gradient(
      tiny.language, objectives.imitation, batch, remat="full", vocabulary=vocabulary, layers=1
    )
    used.append(program.memory_analysis().temp_size_in_bytes)
  assert used[1] < 4 * logits / 2 < 4 * logits < used[0]


def test_what_is_kept_takes_memory_and_is_not_computed_again():
  batch = Demonstrations(
    prompts=tiny.prompts(0, [32] * 4, 32), responses=tiny.responses(1, [32] * 4, 32)
  )
  batch = jax.tree.map(jnp.asarray, batch)
  shape = {"layers": 6, "width": 64, "hidden": 192, "head_width": 16}
  operations = {}
  memory = {}
  for kind in architecture.REMATS:
    _, program = gradient(tiny.language, objectives.imitation, batch, remat=kind, **shape)
    operations[kind] = program.cost_analysis()["flops"]
    memory[kind] = program.memory_analysis().temp_size_in_bytes
  assert memory["full"] < memory["attention"] < memory["dots"] < memory["none"]
  # A forward more is a third of all; without its products it is next to nothing.
  assert operations["none"] <= operations["dots"] < operations["attention"] <= operations["full"]


def test_a_cpu_keeps_products_and_accelerators_the_inputs_of_layers():
  assert [remat.choose("auto", platform) for platform in ("cpu", "gpu", "tpu")] == [
    "dots", "full", "full",
  ]  # fmt: skip
  assert [remat.choose(kind, "tpu") for kind in architecture.REMATS] == [*architecture.REMATS]
  with pytest.raises(ValueError, match="remat='some' is not supported; use one of .*full"):
    tiny.config(remat="some")
  with pytest.raises(ValueError, match="model.remat='some' is not known; use one of auto, none"):
    remat.choose("some", "cpu")
