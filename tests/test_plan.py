"""Plans: what is counted by hand, what is read from compiled programs, and real compilations."""

import json
import os
import pathlib
import subprocess
import sys

import chips
import jax
import jax.numpy as jnp
import pytest
import tiny_run
from jax.sharding import NamedSharding, PartitionSpec

from pit_jax import costs, parallel
from pit_jax.models import pure
from pit_jax.recipes import pit, recipe
from pit_jax.run import abstract, memory
from pit_jax.stages import programs
from pit_jax.tools.plan import compiled, hlo, operations, planning, stages, tables

ROOT = pathlib.Path(__file__).resolve().parent.parent
GIB = 2**30

pytestmark = pytest.mark.skipif(len(jax.devices()) != 8, reason="eight devices are wanted")


def arrays():
  config = tiny_run.config(mesh__shape=(2, 2, 2))
  return planning.arrays(config, recipe.of(config), jax.devices(), None)


# Operations


def test_operations_are_those_of_the_products():
  def layers(x, weights):
    def layer(x, weight):
      return jnp.tanh(x @ weight), None

    return jax.lax.scan(layer, x, weights)[0]

  x, weights = jnp.zeros((4, 6)), jnp.zeros((5, 6, 6))
  once = 2 * 4 * 6 * 6
  assert operations.count(jax.make_jaxpr(layers)(x, weights)) == 5 * once

  def loss(weights):
    return layers(x, weights).sum()

  # Backwards: by the weights and by x.
  assert operations.count(jax.make_jaxpr(jax.grad(loss))(weights)) == 15 * once
  again = jax.grad(lambda weights: jax.checkpoint(loss)(weights))
  assert operations.count(jax.make_jaxpr(again)(weights)) > 15 * once


def test_a_loop_of_unknown_length_counts_as_told():
  def body(carry):
    return carry[0] + 1, carry[1] @ carry[1]

  def loops(n, x):
    first = jax.lax.while_loop(lambda c: c[0] < n, body, (0, x))
    return jax.lax.while_loop(lambda c: c[0] < n, body, first)

  made = jax.make_jaxpr(loops)(3, jnp.zeros((7, 7)))
  assert operations.count(made, 10) == 10 * 2 * 7**3  # the first of them takes all the turns


def test_a_loop_up_to_a_constant_counts_from_zero_wherever_it_begins():
  """In both, and those of unknown length keep their turns."""

  def loops(first, n, x):
    def body(carry):
      return carry[0] + 1, carry[1] @ carry[1]

    start = jax.lax.while_loop(lambda c: c[0] < 4, body, (first, x))
    return jax.lax.while_loop(lambda c: c[0] < n, body, start)

  given, once = (2, 3, jnp.zeros((7, 7))), 2 * 7**3
  assert operations.count(jax.make_jaxpr(loops)(*given), 10) == (4 + 10) * once
  module = hlo.read(jax.jit(loops).lower(*given).compile().as_text())
  least = module.traffic(0).bytes
  turn = module.traffic(1).bytes - least
  assert 4 * turn <= least < 5 * turn


# Compiled programs


def placed(shape, *names):
  mesh = parallel.make_mesh((1, 4, 2))
  return jax.ShapeDtypeStruct(
    shape, jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(*names))
  )


def test_collectives_count_as_often_as_their_loop_runs():
  def sums(x, weights):
    def layer(x, weight):
      x = x @ weight  # both are cut along what is summed over
      return jax.lax.with_sharding_constraint(x, placed((8, 16), None, "tensor").sharding), None

    return jax.lax.scan(layer, x, weights)[0]

  given = placed((8, 16), None, "tensor"), placed((3, 16, 16), None, "tensor", None)
  traffic = hlo.read(jax.jit(sums).lower(*given).compile().as_text()).traffic()
  assert sum(traffic.counts.values()) in (3, 6)  # a sum, or its two halves
  # An all-reduce of Float[8 16] among two, or its parts: at most 2 · ½ of it, at least ½.
  sent = sum(traffic.collectives.values())
  assert 3 * 8 * 16 * 4 / 2 <= sent <= 3 * 8 * 16 * 4


def test_bytes_of_collectives_are_those_of_a_ring():
  line = "  %x = f32[8,16]{1,0} %s(%y), channel_id=1, replica_groups=[2,4]<=[8]"
  sizes = {"all-gather": 0.75, "all-reduce": 1.5, "reduce-scatter": 3.0, "all-to-all": 0.75}
  for kind, share in sizes.items():
    text = f"ENTRY %main (y: f32[8,16]) -> f32[8,16] {{\n{line.replace('%s', kind)}\n}}"
    assert hlo.read(text).traffic().collectives == {kind: share * 8 * 16 * 4}


def test_memory_read_and_written_is_that_of_the_slices():
  """A scan over stacked weights reads each of them once, and not the whole stack every time."""

  def layers(x, weights):
    return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0]

  x, weights = jnp.zeros((4, 64)), jnp.zeros((10, 64, 64))
  module = hlo.read(jax.jit(layers).lower(x, weights).compile().as_text())
  stack = weights.size * 4
  assert stack <= module.traffic().bytes < 5 * stack


def test_the_largest_array_is_found_under_its_name():
  def square(x):
    return (x[:, None] * x[None, :]).sum(axis=1)[:, None] @ x[None, :]

  (size, shown, made), *_ = hlo.read(
    jax.jit(square).lower(jnp.zeros(300)).compile().as_text()
  ).largest(3)
  assert (size, shown) == (300 * 300 * 4, "f32[300,300]") and made


# By hand


def test_arguments_counted_by_hand_are_the_compilers():
  run = arrays()
  for program in (
    programs.imitation(run, "sft", run.prompt),
    programs.scoring(run, "rl", run.prompt, run.scalar),
  ):
    sizes = program.function.lower(*program.arguments).compile().memory_analysis()
    by_hand = abstract.device_bytes(program.arguments)
    assert by_hand == pytest.approx(sizes.argument_size_in_bytes, rel=0.01)


def test_a_stage_keeps_what_its_programs_are_given():
  run = arrays()
  found = {stage.name: stage for stage in stages.stages(run, pit.RECIPE, rows=1000)}
  assert [*found] == [
    "sft_policy", "reward", "rl_policy",
    "sft_improver", "gap_reward", "references", "pit_data", "pit_policy",
  ]  # fmt: skip
  kept = found["pit_data"].kept
  params = abstract.device_bytes(run.params(run.language))
  assert kept["reference"] == params
  assert kept["earlier"] == pytest.approx(3 * params, rel=0.01)  # one of them has another head
  assert kept["policy"] == pytest.approx(3 * params, rel=0.01)  # with Adam's two moments
  made = programs.sampling(run, "rl", run.improver_prompt)
  shown = compiled.Compiled(made, 0, 1, 100 * params, 1.0, compiled.NOTHING, ())
  roles = tables.memory(found["pit_data"], shown)
  assert roles["policy"] == kept["policy"] + made.made["policy"]
  # What the program takes, and what stays beside it.
  assert sum(roles.values()) == 100 * params + sum(kept.values()) - params


def test_a_run_that_cannot_fit_is_refused_with_its_largest_arrays():
  run = arrays()
  memory.check(run, pit.RECIPE, GIB)
  memory.check(run, pit.RECIPE)  # CPUs do not say what they have
  with pytest.raises(ValueError) as error:
    memory.check(run, pit.RECIPE, 10_000)
  for words in ("keeps at least", "parameters and optimiser state", "mesh.shape", "--suggest"):
    assert words in str(error.value)


def test_sampling_gathers_all_but_what_tensor_cuts():
  run = arrays()
  params = run.params(run.language)
  read = pure.gathered(run.language, params, run.mesh)
  kept, gathered = (abstract.device_bytes(tree) for tree in (params, read))
  assert kept < gathered <= 2 * kept  # fsdp is two
  cache = run.cache(8, 20)
  c = run.language.config
  whole = 2 * c.layers * 8 * c.kv_heads * c.head_width * 20 * 4
  assert abstract.device_bytes(cache) == whole // 4  # data × fsdp; one head is not cut


def test_the_roofline_is_the_longest_of_three():
  peak = costs.Peak(flops=10.0, bytes=5.0, memory=1, link=2.0)
  traffic = hlo.Traffic(bytes=20.0, collectives={"all-gather": 3.0, "all-reduce": 1.0}, counts={})
  nothing = programs.Program("nothing", print, (), {}, 1.0)
  made = compiled.Compiled(nothing, 0, 0, 0, 30.0, traffic, ())
  assert made.times(peak) == {"compute": 3.0, "memory": 4.0, "links": 2.0}
  assert made.seconds(peak) == 4.0


# The real compiler


@pytest.mark.slow
@chips.NEEDED
def test_a_small_run_is_compiled_for_real_chips(tmp_path):
  command = [sys.executable, "launch/plan.py", "--config=configs/pit.py:tiny"]
  command += ["--topology=v5e:2x2", "--stages=sft_policy,rl_policy", f"--output={tmp_path}"]
  command += ["--config.mesh.shape=1,2,2", "--config.model.base=none", "--config.model.layers=2"]
  done = subprocess.run(
    command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"JAX_PLATFORMS": "cpu"}
  )
  assert done.returncode == 0, done.stderr
  assert done.stderr.count(" GiB, ") == 4
  assert not any(noise in done.stderr for noise in ("InitGoogle", "libtpu", "TPU_"))
  assert (tmp_path / "pit_tiny_v5e_2x2.txt").read_text() == done.stdout
  rows = json.loads((tmp_path / "pit_tiny_v5e_2x2.json").read_text())["programs"]
  assert [row["program"] for row in rows] == ["step", "sample", "score", "iterate"]
  for row in rows:
    assert row["fits"] and row["seconds"] > 0 and 0 < row["mfu"] < 1
    # Chips keep whole tiles of 128: much of so small arrays is padding, which no count has.
    assert -0.3 < row["by_hand"] <= 0, row["program"]
    assert row["sent"], row["program"]
  assert "chip-hours" in done.stdout
