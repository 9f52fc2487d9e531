"""One run of measurements: models, cases and peers as options name them, as a table and a file."""

import argparse
import dataclasses
import json
import pathlib
import platform
import shutil
from typing import Any

import jax

from pit_jax import costs, progress
from pit_jax.exchange import directories, hf
from pit_jax.models import architecture, kernels, pure
from pit_jax.report import cells, printed
from pit_jax.tools.bench import cases, texts, timing


def measure(options: argparse.Namespace) -> None:
  """Measures what the options of `commands/bench.py` ask for, and prints and writes the figures.

  Raises:
    ValueError: the model cannot be used, or an extra is missing.
  """
  shape = (options.batches, options.prompt, options.response, options.rows, options.mixed)
  sizes = cases.Sizes(*shape)
  directories.check("--model", options.model)
  theirs = _peers(options, sizes)
  language, scalar, params = _models(options)
  ours = cases.cases(language, scalar, params, sizes)
  if options.source:
    ours.append(texts.case(options.model, options.source))
  ours = timing.choose(ours, options.cases.split(","))
  kind = jax.devices()[0].device_kind
  with progress.shown():
    rows = timing.measure(ours, theirs, options.repeats, options.profile, costs.peak(kind))
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


def _peers(options: argparse.Namespace, sizes: cases.Sizes) -> dict[str, timing.Case]:
  if not options.peer:
    return {}
  from pit_jax.tools.bench import peers

  try:
    return peers.peers(options.model, sizes)
  except ImportError as error:
    raise ValueError(
      f"--peer measures transformers with torch, and {error.name} is not installed; install the "
      "extra: pip install 'pit_jax[parity]'"
    ) from error


def _print(result: dict) -> None:
  columns = {
    "case": lambda row: row["name"],
    "rate": lambda row: f"{row['per_second']:,.0f} {row['unit']}/s",
    "seconds": lambda row: f"{row['seconds']:.3f}",
    "spread": lambda row: f"{row['spread']:.2f}",
    "MFU": lambda row: cells.percent(row["mfu"]),
    "bandwidth": lambda row: cells.percent(row["bandwidth"]),
    "peer's rate": lambda row: cells.fixed(row.get("peer_per_second"), 0),
    "ratio": lambda row: cells.fixed(row.get("ratio")),
  }

  table = cells.select("bench", "", result["cases"], columns)
  print(printed.grid(table, min(shutil.get_terminal_size().columns, printed.WIDEST)))
  print(
    f"{result['device']}; {result['dtype']}, attention {result['attention']}; "
    f"peak memory {result['peak_bytes'] / 2**30:.2f} GiB"
  )
