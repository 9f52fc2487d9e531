"""One run of measurements: models, cases and peers as options name them, as a table and a file."""

import argparse
import dataclasses
import json
import pathlib
import platform
import shutil
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp

from pit_jax import costs, progress
from pit_jax.exchange import directories, hf
from pit_jax.models import architecture, kernels, pure
from pit_jax.report import cells, printed
from pit_jax.tools.bench import cases, generation, texts, timing

OURSELVES = (
  generation.SHARED,
  generation.QUEUED,
  texts.ENSEMBLE,
)  # cases whose peer is another one of ours


def measure(options: argparse.Namespace) -> None:
  """Measures what the options of `commands/bench.py` ask for, and prints and writes the figures.

  Raises:
    ValueError: the model cannot be used, or an extra is missing.
  """
  sizes = _sizes(options)
  directories.check("--model", options.model)
  kind = jax.devices()[0].device_kind
  if options.memory and jax.devices()[0].platform != "cpu":
    raise ValueError(
      f"--memory starts a process for each case, and this one holds the device ({kind}); leave it "
      "out, and measure one case at a time: its peak memory is told at the end"
    )
  theirs = _peers(options, sizes)
  language, scalar, params = _models(options)
  ours = _ours(options, language, scalar, params)
  theirs |= _ourselves(options, language, scalar, params)
  ours = timing.choose(ours, options.cases.split(","))
  with progress.shown():
    peaks = {case.name: _peaks(options, case.name, theirs) for case in ours if options.memory}
    rows = timing.measure(ours, theirs, options.repeats, options.profile, costs.peak(kind))
  rows = [row | peaks.get(row["name"], {}) for row in rows]
  result = {
    "model": options.model,
    "device": kind,
    "machine": f"{platform.machine()}, {platform.system()}",
    "jax": jax.__version__,
    "sizes": vars(sizes),
    "dtype": language.config.dtype,
    "attention": language.config.attention,
    "rank": options.rank,
    "remat": options.remat,
    "cases": rows,
    "peak_bytes": timing.peak_bytes(),
  }
  _print(result)
  if options.json:
    pathlib.Path(options.json).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _sizes(options: argparse.Namespace) -> generation.Sizes:
  shape = (options.batches, options.prompt, options.response, options.rows, options.mixed)
  return generation.Sizes(*shape)


def _peaks(options: argparse.Namespace, name: str, theirs: Collection[str]) -> dict[str, Any]:
  """Returns the peak memory of a case and of its peer, in bytes, and the first's share of it."""
  progress.say(f"peak memory of {name}, in a process of its own")
  ours = timing.in_own_process(peak_alone, options, name, False)
  if name not in theirs or name in OURSELVES:
    return {"peak_bytes": ours}
  peer = timing.in_own_process(peak_alone, options, name, True)
  return {"peak_bytes": ours, "peer_peak_bytes": peer, "memory_ratio": ours / peer}


def peak_alone(options: argparse.Namespace, name: str, is_peer: bool) -> int:
  """Returns the peak memory of this process, in bytes, once it has done nothing but one case."""
  if is_peer:
    available = _peers(options, _sizes(options))
  else:
    available = {case.name: case for case in _ours(options, *_models(options), is_alone=True)}
  available[name].start()()
  return timing.peak_bytes()


def _ours(options: argparse.Namespace, *models: Any, is_alone: bool = False) -> list[timing.Case]:
  """Returns our own cases of models and parameters, those of `_models`."""
  made = cases.cases(*models, _sizes(options), is_alone=is_alone)
  if not options.source:
    return made
  language, scalar, params = models
  rewrites = _rewrites(options)
  made += [generation.rewriting(language, params, one) for one in rewrites]
  networks = (language, scalar)
  if rewrites:
    batch = jax.tree.map(lambda x: jnp.asarray(x[: options.rows]), rewrites[-1].batches[0])
    prompts, drafts = batch
    scores = pure.complete(scalar, jax.random.key(0), {"trunk": params["trunk"]})
    learnt = (params, scores, prompts, drafts.tokens.shape[1], drafts)
    made.append(cases.ppo_iteration("rl of the improver", networks, *learnt))
  if pairs := texts.pairs(options.model, options.source):
    made += [cases.scoring_pairs(networks, params, *pairs, count) for count in (1, texts.MEMBERS)]
  return [*made, texts.case(options.model, options.source)]


def _ourselves(
  options: argparse.Namespace, language: pure.PureModel, scalar: pure.PureModel, params: Any
) -> dict[str, timing.Case]:
  """Returns the cases of which another one of ours is the peer, and that one."""
  # What it saves to read a prompt once is seen beside as many prompts.
  sizes = _sizes(options)
  made = {generation.SHARED: generation.sampling(language, params, sizes, generation.PER_PROMPT)}
  # What places that are given on save is seen beside batches.
  made[generation.QUEUED] = generation.queued(language, params, sizes, in_batches=True)
  # What members cost is seen beside one of them.
  if options.source and (pairs := texts.pairs(options.model, options.source)):
    made[texts.ENSEMBLE] = cases.scoring_pairs((language, scalar), params, *pairs)
  return made


def _rewrites(options: argparse.Namespace) -> list[texts.Rewrites]:
  if not options.source:
    return []
  return list(texts.rewrites(options.model, options.source, options.batches))


def _models(
  options: argparse.Namespace,
) -> tuple[pure.PureModel, pure.PureModel, dict[str, Any]]:
  """Returns the language model, the scalar model of its trunk, and the first one's parameters."""
  platform = jax.devices()[0].platform
  dtype = options.dtype
  if dtype == "auto":
    dtype = "float32" if platform == "cpu" else "bfloat16"
  bare = dataclasses.replace(hf.read(options.model), remat=options.remat, dtype=dtype)
  kernel = kernels.choose(options.attention, platform, bare)
  bare = dataclasses.replace(bare, attention=kernel)
  base = hf.load(options.model, pure.language_model(bare))
  adapter = architecture.Adapter(options.rank) if options.rank else None
  shape = dataclasses.replace(bare, adapter=adapter)
  language = pure.language_model(shape)
  return language, pure.scalar_model(shape), pure.complete(language, jax.random.key(0), base)


def _peers(options: argparse.Namespace, sizes: generation.Sizes) -> dict[str, timing.Case]:
  if not options.peer:
    return {}
  from pit_jax.tools.bench import peers

  try:
    how = (options.rank, options.remat != "none", _rewrites(options))
    scored = texts.pairs(options.model, options.source) if options.source else None
    return peers.peers(options.model, sizes, *how, scored and scored[1])
  except ImportError as error:
    raise ValueError(
      f"--peer measures transformers and TRL, and {error.name} is not installed; install the "
      "extra: pip install 'pit_jax[parity]'"
    ) from error


def _print(result: dict) -> None:
  columns = {
    "case": lambda row: row["name"],
    "rate": lambda row: f"{timing.rate(row['per_second'])} {row['unit']}/s",
    "seconds": lambda row: f"{row['seconds']:.3f}",
    "spread": lambda row: f"{row['spread']:.2f}",
    "MFU": lambda row: cells.percent(row["mfu"]),
    "bandwidth": lambda row: cells.percent(row["bandwidth"]),
    "peer's rate": lambda row: timing.rate(row.get("peer_per_second")),
    "ratio": lambda row: cells.fixed(row.get("ratio")),
    "peak memory": lambda row: _gib(row.get("peak_bytes")),
    "peer's": lambda row: _gib(row.get("peer_peak_bytes")),
    "share": lambda row: cells.fixed(row.get("memory_ratio")),
  }

  table = cells.select("bench", "", result["cases"], columns)
  print(printed.grid(table, min(shutil.get_terminal_size().columns, printed.WIDEST)))
  print(
    f"{result['device']}; {result['dtype']}, attention {result['attention']}; "
    f"peak memory {result['peak_bytes'] / 2**30:.2f} GiB"
  )


def _gib(size: float | int | None) -> str:
  return cells.BLANK if size is None else f"{size / 2**30:.2f} GiB"
