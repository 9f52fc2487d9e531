"""Which program computes attention: XLA's own, or a kernel that a kind of device has for it.

They agree up to rounding on all real tokens. What padding sees differs, and nothing reads it.
"""

import functools

import jax
from jaxtyping import Array, Bool, Float, Int

from pit_jax import layout
from pit_jax.models import architecture, attention, splash

NATIVE = {"splash": "tpu", "cudnn": "gpu"}  # kernel → the platform it is for
WIDEST = 128  # head that cuDNN takes on every GPU since Ampere


def choose(wanted: str, platform: str, config: architecture.ModelConfig) -> str:
  """Returns a model's attention kernel for whole rows, one of `architecture.ATTENTIONS`.

  "auto" is the platform's own kernel where it applies, else XLA.

  Args:
    wanted: one of architecture.KERNELS.
    platform: of the devices that the model will be computed on: "cpu", "gpu" or "tpu".
    config: of the model.

  Raises:
    ValueError: if there is no such choice, or it does not apply to the devices or to the model.
  """
  if wanted not in architecture.KERNELS:
    raise ValueError(f"model.attention={wanted!r} is not known; use one of {architecture.KERNELS}")
  if wanted == "auto":
    # "auto" never fails: a model that cuDNN refuses is computed by XLA.
    native = next((name for name, home in NATIVE.items() if home == platform), "xla")
    return "xla" if native == "cudnn" and _refusal(config) else native

  if wanted == "splash" and platform == "cpu":
    return "splash_interpreted"
  if wanted in NATIVE and NATIVE[wanted] != platform:
    raise ValueError(
      f"model.attention={wanted!r} is a kernel for devices of the platform {NATIVE[wanted]!r}, and "
      f'these are {platform!r}; use "auto" or "xla"'
    )

  if wanted == "cudnn" and (reason := _refusal(config)):
    raise ValueError(f'model.attention="cudnn" {reason}; use "auto" or "xla"')
  return wanted


def _refusal(config: architecture.ModelConfig) -> str | None:
  """Returns why cuDNN cannot compute a model's attention; None where it can."""
  if config.dtype != "bfloat16":
    return f"computes in 16 bits, and model.dtype is {config.dtype!r}"
  if config.attention_cap:
    return f"knows no soft cap, and the model's scores have one of {config.attention_cap}"
  if config.head_width > WIDEST or config.head_width % 8:
    return f"takes heads of multiples of 8 up to {WIDEST}, and the model's are {config.head_width}"

  return None


def seen(
  config: architecture.ModelConfig,
  mask: Bool[Array, "B T"],
  visible: Bool[Array, "B T S"],
  segments: Int[Array, "B T"] | tuple[int, ...] | None = None,
) -> Bool[Array, "B T S"] | splash.Rows:
  """Returns the attention mask of whole rows, in the form that the model's kernel takes.

  Args:
    config: of the model.
    mask: which tokens are real.
    visible: which keys each query sees.
    segments: see `transformer.Transformer`.
  """
  return splash.rows(mask, segments) if config.attention.startswith("splash") else visible


def attend(
  config: architecture.ModelConfig,
  query: Float[Array, "B T N H"],
  key: Float[Array, "B K H S"],
  value: Float[Array, "B K S H"],
  visible: Bool[Array, "B T S"] | splash.Rows,
) -> Float[Array, "B T N H"]:
  """Returns attention's outputs by the model's kernel; see `attention.attend`."""
  scale = config.attention_scale or config.head_width**-0.5
  cap = config.attention_cap
  if isinstance(visible, splash.Rows):
    is_interpreted = config.attention == "splash_interpreted"
    return splash.attend(query, key, value, visible, scale, cap, config.window, is_interpreted)

  # Of rows of odd length cuDNN has no gradient; a single query is no work for it.
  is_whole = query.shape[1] == key.shape[3] and query.shape[1] % 2 == 0
  if config.attention == "cudnn" and is_whole:
    return fused(query, key, value, visible, scale, "cudnn")
  return attention.attend(query, key, value, visible, scale, cap)


def fused(
  query: Float[Array, "B T N H"],
  key: Float[Array, "B K H S"],
  value: Float[Array, "B K S H"],
  visible: Bool[Array, "B T S"],
  scale: float,
  implementation: str,
) -> Float[Array, "B T N H"]:
  """Returns the outputs of JAX's own attention, by cuDNN or by XLA, on every device.

  JAX divides cuDNN's work by itself, but refuses queries that are spread and keys that are not.
  """
  ask = functools.partial(jax.nn.dot_product_attention, scale=scale, implementation=implementation)

  def own(query, key, value, visible):
    return ask(query, key.swapaxes(1, 2), value.swapaxes(1, 2), mask=visible[:, None])

  heads = query.shape[2]
  key = splash.per_device(key.swapaxes(2, 3), heads)
  value = splash.per_device(value, heads)
  names = ("batch", None, "heads"), ("batch", "kv_heads"), ("batch", "kv_heads"), ("batch",)
  return layout.each(own, names, query, key, value, visible)
