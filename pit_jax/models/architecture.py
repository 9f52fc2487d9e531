"""Architecture of a decoder: its sizes, and the switches in which published families differ."""

import dataclasses
import math

import numpy as np

SCALINGS = ("none", "linear", "llama3", "yarn")
ACTIVATIONS = ("silu", "gelu_tanh")
COUNTS = ("vocabulary", "width", "layers", "heads", "kv_heads", "head_width", "hidden", "longest")
DTYPES = ("float32", "bfloat16")
# How attention over whole rows is computed; see `models/kernels.py`.
ATTENTIONS = ("xla", "splash", "splash_interpreted", "cudnn")
KERNELS = ("auto", "xla", "splash", "cudnn")  # what a configuration may ask for of these
REMATS = ("none", "full", "dots", "attention")  # what training computes again; see `remat.py`
STORED = ("float32", "bfloat16", "int8")
MATRICES = ("query", "key", "value", "output", "gate", "up", "down")


@dataclasses.dataclass(frozen=True)
class Rope:
  """Rotary positions (Su et al. 2021), and how they were stretched for texts beyond training's.

  Scaling "linear" divides all frequencies by `factor` (Chen et al. 2023), "llama3" the slow ones
  only; "yarn" blends by rotations and sharpens attention (Peng et al. 2023, arXiv 2309.00071).
  """

  theta: float = 10_000.0  # base of the wavelengths
  scaling: str = "none"  # one of SCALINGS
  factor: float = 1.0  # how much longer texts became
  original_length: int = 0  # tokens of the texts before; of llama3 and yarn
  slow: float = 1.0  # rotations over original_length below which a frequency counts as slow
  fast: float = 4.0  # rotations above which it is left as it is
  sharpness: float = 0.0  # yarn multiplies cosine and sine by this; 0 is 0.1 ln(factor) + 1

  def __post_init__(self):
    if self.scaling not in SCALINGS:
      raise ValueError(f"rope scaling {self.scaling!r} is not supported; use one of {SCALINGS}")
    if self.scaling in ("llama3", "yarn") and self.original_length < 1:
      raise ValueError(f"rope scaling {self.scaling!r} needs original_length, in tokens")

  def frequencies(self, head_width: int) -> np.ndarray:
    """Returns the angle per position of each pair of a head, Float[H/2], in radians."""
    plain = self.theta ** (-2 * np.arange(head_width // 2) / head_width)
    if self.scaling in ("none", "linear"):
      return plain / self.factor if self.scaling == "linear" else plain

    # `smooth_factor` of transformers: 0 where a frequency is slow, 1 where it is fast.
    if self.scaling == "llama3":
      rotations = self.original_length * plain / (2 * math.pi)
      smooth = np.clip((rotations - self.slow) / (self.fast - self.slow), 0, 1)
    else:
      smooth = 1 - self._ramp(head_width)

    return plain * (smooth + (1 - smooth) / self.factor)

  @property
  def amplitude(self) -> float:
    """The attention factor of yarn, which multiplies cosine and sine."""
    if self.scaling != "yarn":
      return 1.0
    return self.sharpness or (0.1 * math.log(self.factor) + 1 if self.factor > 1 else 1.0)

  def _ramp(self, head_width: int) -> np.ndarray:
    """Returns 0 for pairs that turn fast, 1 for those that turn slowly (YaRN, eq. 18)."""

    def pair(rotations):
      # The inverse of `frequencies`: which pair turns so often over original_length tokens.
      waves = self.original_length / (rotations * 2 * math.pi)
      return head_width * math.log(waves) / (2 * math.log(self.theta))

    low = max(math.floor(pair(self.fast)), 0)
    high = min(math.ceil(pair(self.slow)), head_width - 1)
    # Both bounds may fall on one pair; the ramp is then a step.
    return np.clip((np.arange(head_width // 2) - low) / max(high - low, 1e-3), 0, 1)


@dataclasses.dataclass(frozen=True)
class Adapter:
  """Low-rank changes of a layer's matrices; see `models/lora.py`."""

  rank: int  # columns of A, rows of B
  alpha: float = 16.0  # what a matrix is changed by is multiplied by alpha / rank
  targets: tuple[str, ...] = MATRICES  # which of a layer's matrices

  def __post_init__(self):
    if self.rank < 1 or not self.alpha > 0:
      raise ValueError(f"an adapter of rank={self.rank}, alpha={self.alpha}: both must be positive")
    if not self.targets or set(self.targets) - set(MATRICES):
      raise ValueError(f"adapter targets={self.targets}; name one or more of {MATRICES}")

  @property
  def scale(self) -> float:
    """LoRA's scale, alpha / rank, which multiplies the product of A and B."""
    return self.alpha / self.rank


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """The shape of a decoder; every field of type int is a count."""

  vocabulary: int  # tokens the embedding and the head know
  width: int  # of the residual stream, D
  layers: int  # blocks, L
  heads: int  # query heads, N
  kv_heads: int  # key/value heads, K, each of which serves N/K query heads
  head_width: int  # H
  hidden: int  # of the gated MLP, F
  rope: Rope = Rope()  # rotary positions
  local_rope: Rope | None = None  # those of layers with a window; None is the same
  # How many tokens a layer with a window sees, the query's own included; 0 is no window.
  window: int = 0
  windowed: tuple[bool, ...] = ()  # which layers have one; () is none, or all when `window` is set
  tied: bool = True  # the head is the transposed embedding
  activation: str = "silu"  # of the gated MLP
  qkv_bias: bool = False  # queries, keys and values have biases
  output_bias: bool = False  # attention's output has one
  qk_norm: bool = False  # queries and keys are normalised per head before they are rotated
  post_norms: bool = False  # what attention and MLP add is normalised too
  norm_offset: float = 0.0  # norms multiply by this plus their scale
  norm_epsilon: float = 1e-6  # in norms, added to the mean square
  embedding_scale: float = 1.0  # multiplies embeddings, not the tied head
  attention_scale: float = 0.0  # multiplies q·k; 0 is H^(−1/2)
  attention_cap: float = 0.0  # scores become cap · tanh(score / cap); 0 is no cap
  logit_cap: float = 0.0  # the same for the logits
  longest: int = 2_048  # tokens of the longest text it was made for; nothing enforces it
  dtype: str = "float32"  # of matrix products; norms and softmax are float32
  remat: str = "none"  # which activations training computes again; one of REMATS
  unroll: bool = True  # cached generation is compiled layer by layer; else it scans them
  # What computes attention over whole rows; steps of sampling are XLA's.
  attention: str = "xla"
  # How matrices are kept. Only frozen ones may be kept in less than float32: in bfloat16, or a
  # layer's in int8 with a scale per output, and the embedding and the head in bfloat16.
  stored: str = "float32"
  adapter: Adapter | None = None  # what is trained beside a scalar head; None trains everything

  def __post_init__(self):
    for name in COUNTS:
      if getattr(self, name) < 1:
        raise ValueError(f"{name}={getattr(self, name)} is not a positive count")

    if self.heads % self.kv_heads:
      raise ValueError(
        f"heads={self.heads} is not a multiple of kv_heads={self.kv_heads}; "
        "every key/value head serves the same number of query heads"
      )

    if self.head_width % 2:
      raise ValueError(f"head_width={self.head_width} is odd; rotary positions need pairs")
    named = {"dtype": DTYPES, "activation": ACTIVATIONS, "stored": STORED, "attention": ATTENTIONS}
    named["remat"] = REMATS

    for name, allowed in named.items():
      if getattr(self, name) not in allowed:
        raise ValueError(f"{name}={getattr(self, name)!r} is not supported; use one of {allowed}")

    if self.windowed and (len(self.windowed) != self.layers or self.window < 1):
      raise ValueError(
        f"windowed names {len(self.windowed)} layers and window={self.window}; "
        f"name all {self.layers} layers and give a window of at least 1 token"
      )

  @property
  def windows(self) -> tuple[bool, ...]:
    """Which layers have a window, one entry per layer."""
    return self.windowed or (self.window > 0,) * self.layers

  @property
  def wide(self) -> str:
    """The type in which embedding and head are kept: what no layer has is never in int8."""
    return "float32" if self.stored == "float32" else "bfloat16"
