"""Measures this machine: tokens per second of generation and of every training step.

  python launch/bench.py --model=models/base [--cases=generate,sft] [--peer] [--json=bench.json]

The model is a directory as `launch/convert.py import` writes it. With --peer (extra `parity`) the
same work goes through transformers' `generate` and a plain torch AdamW loop on the same weights,
alternating with ours in one run; what is printed are medians and their ratios. With --rank
adapters are trained on one frozen base, as `model.lora.rank` does in a run. --attention is what
`model.attention` is in a run, and --dtype what products are computed in: unless it is given,
float32 on CPUs, and elsewhere bfloat16, as in the large sizes of configs/. The peer has float32.
Weights are laid out for generation before it, which is a case of its own. On a device whose peaks
are known, `mfu` and `bandwidth` are shares of them; its peak of operations is that of bfloat16,
whatever the products are computed in. --profile writes an XProf trace. With --source a case is
added, which tokenises those preferences into a set on disk.
"""

import argparse
import dataclasses
import json
import pathlib
import platform
from collections.abc import Sequence
from typing import Any

import jax
import rich.console
import rich.table

from pit_jax import commands, costs
from pit_jax.exchange import directories, hf
from pit_jax.models import architecture, kernels, pure
from pit_jax.tools.bench import cases, texts, timing

DTYPES = ("auto", "float32", "bfloat16")


@commands.command
def main(arguments: Sequence[str]) -> None:
  """Measures this machine."""
  options = _options(arguments)
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
  platform, dtype = jax.devices()[0].platform, options.dtype
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
  table = rich.table.Table(box=None, pad_edge=False)
  table.add_column("case", no_wrap=True)
  for column in ("rate", "seconds", "spread", "MFU", "bandwidth", "peer's rate", "ratio"):
    table.add_column(column, justify="right")
  for row in result["cases"]:
    peer = "peer_per_second" in row
    table.add_row(
      row["name"],
      f"{row['per_second']:,.0f} {row['unit']}/s",
      f"{row['seconds']:.3f}",
      f"{row['spread']:.2f}",
      *(f"{share:.1%}" if share is not None else "·" for share in (row["mfu"], row["bandwidth"])),
      f"{row['peer_per_second']:,.0f}" if peer else "·",
      f"{row['ratio']:.2f}" if peer else "·",
    )
  console = rich.console.Console()
  console.print(table)
  console.print(
    f"{result['device']}; {result['dtype']}, attention {result['attention']}; "
    f"peak memory {result['peak_bytes'] / 2**30:.2f} GiB"
  )


def _options(arguments: Sequence[str]) -> argparse.Namespace:
  parser = commands.Parser(__doc__)
  add, count = parser.add_argument, commands.at_least(1)
  add("--model", required=True, help="a model directory")
  add("--cases", default="", help="words of the cases' names; none are all")
  add(
    "--batches",
    type=commands.counts,
    default=(1, 8, 32),
    help="sequences generated at once: 1,8,32",
  )
  add("--prompt", type=count, default=64, help="tokens of every prompt")
  add("--response", type=count, default=64, help="tokens of every response")
  add("--rows", type=count, default=8, help="sequences of a training step")
  add("--mixed", type=count, default=64, help="sequences of very different lengths")
  add("--rank", type=int, default=0, help="of adapters to train; 0 trains all")
  add("--remat", action="store_true", help="compute activations again instead of keeping them")
  add("--dtype", choices=DTYPES, default="auto", help="of products; auto: by the devices")
  add("--attention", choices=kernels.CHOICES, default="auto", help="as model.attention of a run")
  add("--repeats", type=count, default=5, help="measured calls of each case")
  add("--source", help="preferences to tokenise, as data.source names them")
  add("--peer", action="store_true", help="also measure transformers and torch")
  add("--profile", help="folder for an XProf trace of the measured calls")
  add("--json", help="file for the figures")
  return parser.parse_args(arguments)


if __name__ == "__main__":
  main()
