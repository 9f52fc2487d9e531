"""Which program computes attention: what the devices and the model choose, cuDNN, and plans."""

import functools

import chips
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tiny_run

from pit_jax import layout, parallel
from pit_jax.models import attention, kernels, splash
from pit_jax.rollout import decode
from pit_jax.run import origin
from pit_jax.tools.plan import operations


def drawn(rows, time, heads=4, kv_heads=2, width=8):
  """Queries, keys and values."""
  draw = np.random.default_rng(0)
  shapes = [
    (rows, time, heads, width),
    (rows, kv_heads, width, time),
    (rows, kv_heads, time, width),
  ]
  return [jnp.array(draw.normal(size=shape), jnp.float32) for shape in shapes]


# cuDNN


def test_what_cudnn_is_asked_is_what_xla_computes():
  """JAX's own attention with the same arguments, by its other implementation."""
  arrays, mask = drawn(2, 9), np.concatenate([tiny.left([2, 1], 3), tiny.right([6, 3], 6)], 1)
  for segments in (None, (3, 3, 3)):
    visible = attention.causal(jnp.array(mask), attention.spelled(segments, mask.shape))
    expected = np.asarray(attention.attend(*arrays, visible, 0.6))
    for mesh in ((1, 1, 1), (1, 2, 4)):  # four devices share two heads of keys
      ask = layout.on(parallel.make_mesh(mesh), kernels.fused)
      actual = np.asarray(jax.jit(ask, static_argnums=(4, 5))(*arrays, visible, 0.6, "xla"))
      np.testing.assert_allclose(actual[mask], expected[mask], rtol=1e-5, atol=1e-5)


def test_cudnn_is_asked_for_whole_rows_alone(monkeypatch):
  asked, own = [], jax.nn.dot_product_attention

  def recording(query, *arrays, implementation, **keywords):
    asked.append((implementation, query.dtype, query.shape[1]))
    return own(query, *arrays, implementation="xla", **keywords)

  monkeypatch.setattr(jax.nn, "dot_product_attention", recording)
  model, plain = (tiny.language(dtype="bfloat16", attention=name) for name in ("cudnn", "xla"))
  params, prompts = tiny.parameters(model, seed=1), tiny.prompts(0, [4, 2, 3, 1], 4)
  params, prompts = jax.tree.map(jnp.asarray, (params, prompts))
  logits, expected = (
    np.asarray(m.apply(params, prompts.tokens, prompts.mask)) for m in (model, plain)
  )
  assert asked == [("cudnn", jnp.bfloat16, 4)]  # layers are scanned
  real = np.asarray(prompts.mask)
  assert np.abs(logits - expected)[real].max() < 0.05 * expected[real].std()  # 8 bits of mantissa
  asked.clear()
  sample = functools.partial(decode.sample, model, length=3, eos_id=tiny.EOS, pad_id=tiny.PAD)
  jax.eval_shape(sample, params, prompts, jax.random.key(0), jnp.float32(1))
  assert {time for *_, time in asked} == {4}  # the prompts, and no token after them
  asked.clear()
  odd = jax.ShapeDtypeStruct((2, 5), jnp.int32), jax.ShapeDtypeStruct((2, 5), jnp.bool_)
  jax.eval_shape(model.apply, params, *odd)
  assert not asked


# The choice

WIDE = {"dtype": "bfloat16", "head_width": 128}


@pytest.mark.parametrize(
  "wanted, platform, shape, expected",
  [
    ("auto", "cpu", {}, "xla"),
    ("auto", "tpu", {}, "splash"),
    ("auto", "tpu", {"attention_cap": 50.0, "head_width": 256}, "splash"),
    ("auto", "gpu", {}, "xla"),  # float32
    ("auto", "gpu", WIDE, "cudnn"),
    ("auto", "gpu", WIDE | {"attention_cap": 50.0}, "xla"),
    ("auto", "gpu", WIDE | {"head_width": 256}, "xla"),
    ("auto", "gpu", WIDE | {"head_width": 100}, "xla"),
    ("xla", "tpu", {}, "xla"),
    ("splash", "tpu", {}, "splash"),
    ("splash", "cpu", {}, "splash_interpreted"),
    ("cudnn", "gpu", WIDE, "cudnn"),
  ],
)
def test_the_devices_and_the_model_choose(wanted, platform, shape, expected):
  assert kernels.choose(wanted, platform, tiny.config(**shape)) == expected


@pytest.mark.parametrize(
  "wanted, platform, shape, words",
  [
    ("flash", "cpu", {}, ["'flash'", "auto", "xla", "splash", "cudnn"]),
    ("splash", "gpu", WIDE, ["'splash'", "'tpu'", "'gpu'"]),
    ("cudnn", "cpu", WIDE, ["'cudnn'", "'gpu'", "'cpu'"]),
    ("cudnn", "gpu", {}, ["model.dtype", "float32"]),
    ("cudnn", "gpu", WIDE | {"attention_cap": 50.0}, ["soft cap", "50.0"]),
    ("cudnn", "gpu", WIDE | {"head_width": 256}, ["multiples of 8 up to 128", "256"]),
  ],
)
def test_a_choice_that_does_not_apply_is_refused(wanted, platform, shape, words):
  with pytest.raises(ValueError) as error:
    kernels.choose(wanted, platform, tiny.config(**shape))
  for word in words:
    assert word in str(error.value)


def test_the_devices_that_count_are_those_of_the_plan():
  config = tiny_run.config()
  for base in (None, origin.EMBEDDED):
    found = [origin.shape(config, base, 100, platform).attention for platform in ("cpu", "tpu")]
    assert found == ["xla", "splash"]


# Plans


def test_operations_of_the_kernel_are_those_of_its_blocks():
  """Two products of every block of queries with every block of keys, on all devices."""
  arrays = drawn(8, 515)
  mask = jnp.ones((8, 515), bool)

  def run(*arrays):
    return splash.attend(*arrays, splash.rows(mask, None), 1.0, 0.0, 0, is_interpreted=True)

  expected = 2 * 2.0 * 8 * 4 * 768**2 * 8
  for mesh in ((1, 1, 1), (2, 2, 2)):
    made = jax.make_jaxpr(layout.on(parallel.make_mesh(mesh), run))(*arrays)
    assert operations.count(made) == expected


COMPILED = """
from pit_jax.configs import pit
from pit_jax.recipes import recipe
from pit_jax.stages import programs
from pit_jax.tools.plan import compiled, planning
config = pit.get_config("tiny").unlock()
config.model.base, config.model.layers, config.mesh.shape = "none", 2, (1, 2, 2)
run = planning.arrays(config, recipe.of(config), compiled.devices("v5e:2x2"), None)
for program in (programs.imitation(run, "sft", run.prompt), programs.preference(run, "reward")):
  text = program.function.lower(*program.arguments).compile().as_text()
  for kernel in ("fwd", "dq", "dkv"):
    assert f"splash_mha_{kernel}" in text, kernel
"""


@pytest.mark.slow
@chips.NEEDED
def test_train_steps_with_the_kernel_are_compiled_for_real_chips():
  chips.passes(COMPILED)
