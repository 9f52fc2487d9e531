"""What a run keeps at least, beside what the compiler keeps and what files hold."""

import math

import jax
import published
import pytest
import safetensors.numpy
import tiny_run

from pit_jax import types
from pit_jax.exchange import families
from pit_jax.recipes import pit, recipe
from pit_jax.run import abstract, kinds, memory, origin
from pit_jax.stages import programs
from pit_jax.tools.plan import planning, stages

pytestmark = pytest.mark.skipif(len(jax.devices()) != 8, reason="eight devices are wanted")
LARGER = {"model__layers": 4, "model__width": 64, "model__hidden": 256}


def arrays(shape, **changes):
  config = tiny_run.config(mesh__shape=shape, **changes)
  return planning.arrays(config, recipe.of(config), jax.devices()[: math.prod(shape)], None)


@pytest.mark.parametrize(
  "shape, unroll, is_copied",
  [((8, 1, 1), False, False), ((8, 1, 1), True, True), ((1, 8, 1), False, True)],
)
def test_weights_count_as_gathered_where_the_compiler_copies_them(shape, unroll, is_copied):
  run = arrays(shape, model__unroll=unroll, **LARGER)
  made = programs.sampling(run, "rl", run.improver_prompt)
  sizes = made.function.lower(*made.arguments).compile().memory_analysis()
  params = run.params(run.language)
  layers = abstract.device_bytes(params["trunk"]["blocks"])
  if is_copied:
    assert layers <= memory.gathered(run) <= sizes.temp_size_in_bytes
  else:
    assert memory.gathered(run) == 0 and sizes.temp_size_in_bytes < layers
  kept = memory.needs(run, pit.RECIPE)["sampling of pit_policy"]
  assert kept["weights gathered for sampling"] == memory.gathered(run)


@pytest.mark.parametrize("packed_length", [0, 48])
def test_a_step_of_packed_rows_is_compiled_for_their_length(packed_length):
  changes = {"sft__packing": True, "sft__packed_length": packed_length}
  run = arrays((8, 1, 1), **changes)
  made = programs.imitation(run, "sft", run.prompt)
  batch = made.arguments[2]
  length = packed_length or run.prompt + run.response
  assert isinstance(batch, types.Packed)
  assert batch.tokens.shape == (run.config.sft.batch_size, length)
  made.function.lower(*made.arguments)
  apart = programs.imitation(arrays((8, 1, 1)), "sft", run.prompt)
  if not packed_length:
    assert made.flops == apart.flops


def test_a_stage_that_packs_nothing_is_planned_so_where_its_section_does():
  """SRT imitates its refinements in DPO's batches."""
  packed = {"tuning__packing": True, "tuning__packed_length": 96, "dpo__batch_size": 4}
  config = tiny_run.config("srt", data__max_response_length=80, **packed)
  method = recipe.of(config)
  run = planning.arrays(config, method, jax.devices()[:1], None)
  made = {}
  for stage in method.stages(config):
    if stage.section == "tuning":
      ((make, *asked),) = kinds.kind_of(method, config, stage).programs(run, stage)
      made[stage.name] = make(run, *asked).arguments[2]
  apart = made.pop("srt_sft")
  assert isinstance(apart, types.Demonstrations) and len(apart.prompts.tokens) == 4
  assert made and all(batch.tokens.shape[1] == 96 for batch in made.values())


def test_a_published_reward_model_counts_as_large_as_it_is(tmp_path):
  directory = published.foreign(tmp_path)
  tensors = safetensors.numpy.load_file(directory / "model.safetensors")
  size = sum(tensor.nbytes for tensor in tensors.values())
  run, own = arrays((1, 1, 1), reward__model=str(directory)), arrays((1, 1, 1))
  kept = memory.needs(run, pit.RECIPE)
  assert "reward" in memory.needs(own, pit.RECIPE) and "reward" not in kept
  # The file has no bias, which is one number of calibration.
  assert kept["PPO of rl_policy"]["reward model"] == pytest.approx(size, abs=4)
  # The improver has the gap reward model, which is the run's own, and R_P waits.
  found, trained = kept["PPO of pit_policy"], abstract.device_bytes(own.params(own.scalar))
  assert found["reward model"] == trained != size
  policies = 2 * abstract.device_bytes(own.params(own.language))  # M_P^SFT and M_P^RL wait too
  assert found["models of other stages"] == pytest.approx(policies + size, abs=4)
  with pytest.raises(ValueError, match="keeps at least"):
    memory.check(run, pit.RECIPE, 10_000)


def test_a_published_reward_model_is_planned_as_it_is_asked(tmp_path):
  run = arrays((1, 1, 1), reward__model=str(published.foreign(tmp_path)))
  found = {stage.name: stage for stage in stages.stages(run, pit.RECIPE, rows=1000)}
  assert "reward" not in found and "gap_reward" in found
  asked = found["rl_policy"].makers[1]().arguments
  assert jax.tree.map(lambda x: x.shape, asked[0]) == jax.tree.map(
    lambda x: x.shape, run.params(run.published.scalar)
  )
  rows, longest = run.config.rl.batch_size, 2 * (32 + 32)
  assert [part.shape for part in asked[1:]] == [(rows, longest), (rows, longest), (rows,)]
  gap = found["pit_data"].makers[1]().arguments
  assert gap[1].tokens.shape[1] == run.improver_prompt


def test_without_a_value_model_nothing_of_it_is_kept_planned_or_computed():
  plain = arrays((2, 1, 1), **LARGER)
  run = arrays((2, 1, 1), rl__estimator="rloo", rl__samples=2, rl__value_warmup=9, **LARGER)
  size = abstract.device_bytes(run.parts(run.language)[0])
  kept, before = (memory.needs(one, pit.RECIPE)["PPO of pit_policy"] for one in (run, plain))
  assert kept["gradients"] == size < before["gradients"]
  assert kept["policy with optimiser state"] == pytest.approx(3 * size, abs=64)
  two = before["policy and value model with optimiser state"]
  assert two - kept["policy with optimiser state"] == pytest.approx(
    3 * abstract.device_bytes(run.parts(run.scalar)[0]), abs=64
  )
  found = {stage.name: stage for stage in stages.stages(run, pit.RECIPE, rows=1000)}
  assert "value" not in found["rl_policy"].kept
  sample, _, iterate = (make() for make in found["rl_policy"].makers)
  rows = run.config.rl.batch_size
  assert sample.arguments[1].tokens.shape[0] == rows // 2
  (once,) = found["references"].makers
  assert once().arguments[1].tokens.shape[0] == rows, "a reference for every prompt"
  assert {*iterate.roles} == {"policy", "reference"}
  # Of six passes of a model and three reads, one model's and one read are not there.
  whole = programs.iteration(plain, "rl", plain.prompt)
  assert iterate.flops < 0.6 * whole.flops
  for program in (sample, iterate):
    program.function.lower(*program.arguments).compile()


def test_a_base_stays_beside_the_models_made_of_it():
  without, based = arrays((1, 1, 1)), arrays((1, 1, 1), model__base="embedded")
  size = abstract.device_bytes(based.params(based.language))
  assert memory.needs(without, pit.RECIPE)["sft_policy"]["base model"] == 0
  assert all(kept["base model"] == size for kept in memory.needs(based, pit.RECIPE).values())
  planned = stages.stages(based, pit.RECIPE, rows=1000)
  kept = {stage.name: stage.kept["earlier"] for stage in planned}
  # The first model is the base itself; later there are M_P^SFT, R_P and M_P^RL besides.
  assert kept["sft_policy"] == size and kept["rl_policy"] == size
  assert kept["pit_data"] == pytest.approx(4 * size, rel=0.01)


def test_a_plan_takes_shape_and_vocabulary_from_the_base():
  run = arrays((1, 1, 1), model__base="embedded", data__vocabulary=2_048)
  base = families.read(origin.directory(run.config))
  assert (run.language.config.vocabulary, run.language.config.layers) == (base.vocabulary, 4)
  assert base.vocabulary < run.config.data.vocabulary
