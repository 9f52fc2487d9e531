"""Adapters that others trained with PEFT, merged with their base tensor by tensor.

A run's own adapters stay apart from their base, see peft.py; those of others come in here, whatever
modules they adapt and with whatever ranks: what is merged is one model like any other.

  W' = W + s · B A          s = alpha / r, or alpha / √r with rsLoRA  (arXiv 2106.09685, 2312.03732)
  W' = m · (W + s · B A) / |W + s · B A|     by rows, with DoRA        (arXiv 2402.09353)
"""

import dataclasses
import math
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from pit_jax.exchange import directories, peft, weights

SCORE = "score.weight"
MODULE = re.compile(
  r"(?P<module>.+)\.(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)"
  r"(\.weight)?"
)
WRAPPERS = re.compile(r"\.(base_layer|modules_to_save|original_module|default)(?=\.)")
LINEAR = re.compile(r".*_proj")  # of a layer; neither the embedding nor a head
# What an adapter_config.json says of the merged weights.
READ = {
  "alpha_pattern",
  "exclude_modules",
  "layers_to_transform",
  "lora_alpha",
  "modules_to_save",
  "peft_type",
  "r",
  "rank_pattern",
  "target_modules",
  "task_type",
  "use_dora",
  "use_rslora",
}
# What it says of how they were trained, or of classes that the base's matrices are not of.
MEANINGLESS = {
  "auto_mapping",
  "base_model_name_or_path",
  "bias",  # the tensors themselves are there, or not
  "corda_config",
  "eva_config",
  "fan_in_fan_out",
  "inference_mode",
  "loftq_config",
  "lora_dropout",
  "lora_ga_config",
  "megatron_core",
  "peft_version",
  "qalora_group_size",
  "revision",
  "runtime_config",
}
# What may be said only in this way. PiSSA and its like take something out of the base first.
FIXED: dict[str, tuple[Any, ...]] = {
  "peft_type": ("LORA",),
  "task_type": (None, "CAUSAL_LM", "SEQ_CLS"),
  "init_lora_weights": (None, True, False, "gaussian", "eva", "orthogonal"),
  "layers_pattern": (None, "", [], "layers", ["layers"]),
}
OFF = (None, False, [], {}, 0)


@dataclasses.dataclass(frozen=True)
class Change:
  """The change of one matrix by an adapter."""

  a: np.ndarray  # Float[r In]
  b: np.ndarray  # Float[Out r]
  scale: float  # of their product
  magnitude: np.ndarray | None  # of each row, Float[Out]; None without DoRA
  is_embedding: bool  # the matrix is [In, Out] and not [Out, In]

  @property
  def shape(self) -> tuple[int, ...]:
    """The shape of the matrix that it fits."""
    shape = (self.b.shape[0], self.a.shape[1])
    return shape[::-1] if self.is_embedding else shape

  def apply(self, weight: np.ndarray) -> np.ndarray:
    """Returns the changed matrix."""
    added = self.scale * (self.b @ self.a)
    changed = weight + (added.T if self.is_embedding else added)
    if self.magnitude is None:
      return changed
    return changed * (self.magnitude / np.linalg.norm(changed, axis=1))[:, None]


class Merged:
  """The tensors of a base with the adapters of a directory; see `weights.Weights`.

  `is_scalar` says whether the adapters make a classifier of their base.
  """

  def __init__(self, base: weights.Weights, directory: str | os.PathLike, *, is_tied: bool):
    """Reads adapter_config.json and adapter_model.safetensors, which were trained on the base.

    Whether its embedding is its head, `is_tied` says.

    Raises:
      ValueError: a file cannot be read, or asks for what there is no way to merge.
    """
    path = pathlib.Path(directory)
    self._base = base
    self._raw = _described(path / peft.CONFIG)
    self._saved: dict[str, np.ndarray] = {}
    self._changes: dict[str, Change] = {}
    self.name = f"{directory} on {base.name}"
    self.wrong = list(base.wrong)
    self._collect(peft.tensors(path / peft.WEIGHTS), str(path / peft.WEIGHTS))

    names = base.shapes.keys() | self._saved.keys()
    self.is_scalar = self._raw.get("task_type") == "SEQ_CLS" or SCORE in names
    self.shapes = self._shapes(is_tied)
    self._check(is_tied)

  def read(self, tensor: str) -> np.ndarray:
    """Returns a tensor, in float32 where adapters changed it."""
    # A head that was tied stays what the embedding was before another was trained.
    was_tied = tensor == weights.HEAD and tensor not in self._base.shapes
    source = weights.EMBEDDING if was_tied else tensor
    weight = self._saved[tensor] if tensor in self._saved else self._base.read(source)
    change = self._changes.get(tensor.removesuffix(".weight"))
    return change.apply(np.asarray(weight, np.float32)) if change else weight

  def _collect(self, tensors: Mapping[str, np.ndarray], source: str) -> None:
    """Sorts tensors into what replaces the base's and what changes them."""
    parts: dict[str, dict[str, np.ndarray]] = {}
    for name, tensor in tensors.items():
      weights.finite(tensor, name, source)
      # PEFT's layers around a module are no part of the base's names.
      plain = WRAPPERS.sub("", name.removeprefix(peft.PREFIX))
      if match := MODULE.fullmatch(plain.removesuffix(".default")):
        parts.setdefault(match["module"], {})[match["part"]] = tensor
      else:
        self._saved[plain] = tensor

    for module, pair in parts.items():
      change = self._change(module, pair)
      if change is None:
        self.wrong.append(f"{module} has {', '.join(sorted(pair))}, which are no pair")
      else:
        self._changes[module] = change

  def _change(self, module: str, own: Mapping[str, np.ndarray]) -> Change | None:
    kind = "embedding_" if "lora_embedding_A" in own else ""
    names = (f"lora_{kind}A", f"lora_{kind}B", "lora_magnitude_vector")
    a, b, magnitude = map(own.get, names)
    if a is None or b is None or (magnitude is None) == bool(self._raw.get("use_dora")):
      return None
    rank = _by_pattern(self._raw.get("rank_pattern"), module, self._raw.get("r", 8))
    alpha = _by_pattern(self._raw.get("alpha_pattern"), module, self._raw.get("lora_alpha", 8))

    if not a.ndim == b.ndim == 2 or not a.shape[0] == b.shape[1] == rank:
      self.wrong.append(f"{module} has A {a.shape} and B {b.shape}, not of rank {rank}")
    root = math.sqrt(rank) if self._raw.get("use_rslora") else rank
    return Change(a, b, float(alpha) / root, magnitude, bool(kind))

  def _shapes(self, is_tied: bool) -> dict[str, tuple[int, ...]]:
    shapes = dict(self._base.shapes)
    if self.is_scalar:
      shapes.pop(weights.HEAD, None)
      if SCORE in self._saved:
        shapes[SCORE] = self._saved[SCORE].shape
    elif is_tied:
      trained = {weights.HEAD}
      # What PEFT trains beside adapters is a copy: the other one of the two stays as it was.
      if _is_saved(self._raw, "model.embed_tokens"):
        trained.add(weights.EMBEDDING)
      if trained & self._saved.keys():
        shapes.setdefault(weights.HEAD, shapes[weights.EMBEDDING])

    return shapes

  def _check(self, is_tied: bool) -> None:
    """Adds what does not fit to `wrong`."""
    modules = [name.removesuffix(".weight") for name in self.shapes if name.endswith(".weight")]
    for module, change in self._changes.items():
      shape = self.shapes.get(f"{module}.weight")
      if shape is None:
        self.wrong.append(f"{module} is adapted and not part of the base")
      elif shape != change.shape:
        self.wrong.append(f"{module}.weight has shape {shape}, its adapter is for {change.shape}")

      if change.is_embedding and change.magnitude is not None:
        self.wrong.append(f"{module} is an embedding with DoRA, which is not merged")

    embeddings = {"lm_head", "model.embed_tokens"} & self._changes.keys()
    if is_tied and not self.is_scalar and embeddings:
      self.wrong.append(
        f"{', '.join(embeddings)} is adapted, and the base's head is its embedding: merging would "
        "change the other one, too"
      )

    for name, tensor in self._saved.items():
      theirs = self.shapes.get(name, "is not there")
      if theirs != tensor.shape:
        self.wrong.append(f"{name} of the adapters has shape {tensor.shape}, the base's {theirs}")

    # Adapters that a file announces and lacks, or has unannounced, are no whole adapters.
    targeted = {module for module in modules if _is_adapted(self._raw, module)}
    targeted -= {"lm_head"} if is_tied else set()
    changed = self._changes.keys()
    self.wrong += [f"{name} is to be adapted and is not" for name in targeted - changed]
    self.wrong += [f"{name} is adapted unasked" for name in changed - targeted]


def _described(path: pathlib.Path) -> dict[str, Any]:
  """Returns an adapter_config.json that can be merged."""
  raw = directories.read_object(path, f"{path.parent}: ")
  wrong = [
    f"{name}={raw.get(name)!r} (only {' or '.join(map(repr, allowed))})"
    for name, allowed in FIXED.items()
    if raw.get(name) not in allowed
  ]
  recognised = READ | MEANINGLESS | FIXED.keys()
  wrong += [f"{name}={raw[name]!r}" for name in raw.keys() - recognised if raw[name] not in OFF]
  if not isinstance(raw.get("target_modules"), list | str):
    wrong.append(f"target_modules={raw.get('target_modules')!r} (only names or a pattern)")

  if wrong:
    raise ValueError(f"{path}: not supported: {'; '.join(sorted(wrong))}")
  return raw


def _is_adapted(raw: Mapping[str, Any], module: str) -> bool:
  """Returns whether an adapter_config.json asks for an adapter of a module of the base."""
  targets = raw["target_modules"]
  chosen = raw.get("layers_to_transform")
  if _is_named(raw.get("exclude_modules"), module) or _is_saved(raw, module):
    return False

  if isinstance(targets, str):
    pattern = LINEAR if targets.lower() == "all-linear" else targets
    return bool(re.fullmatch(pattern, module))
  if chosen in (None, []):
    return _is_named(targets, module)

  layer = re.search(r"\.layers\.(\d+)\.", module)
  layers = chosen if isinstance(chosen, list) else [chosen]
  return _is_named(targets, module) and layer is not None and int(layer[1]) in layers


def _is_named(names: list[str] | str | None, module: str) -> bool:
  if isinstance(names, str):
    return bool(re.fullmatch(names, module))
  return any(module == name or module.endswith(f".{name}") for name in names or ())


def _is_saved(raw: Mapping[str, Any], module: str) -> bool:
  names = raw.get("modules_to_save") or ()
  return any(re.match(rf"(^|.*\.){name}($|\..*)", module) for name in names)


def _by_pattern(patterns: Mapping[str, Any] | None, module: str, default: Any) -> Any:
  """Returns the value of the first pattern that a module's name ends in."""
  matching = [key for key in patterns or () if re.match(rf"(.*\.)?({key})$", module)]
  return patterns[matching[0]] if matching else default
