"""Measures this machine: tokens per second of generation and of every training step.

  python launch/bench.py --model=models/base [--peer] [--json=bench.json] [--profile=FOLDER]

The model is a directory as `launch/convert.py import` writes it. With --peer (extra `parity`) the
same work goes through transformers' `generate` and a plain torch AdamW loop on the same weights,
alternating with ours in one run; what is printed are medians and their ratios.
"""

import argparse
import json
import pathlib
import platform

import jax
import rich.console
import rich.table

from pit_jax import bench
from pit_jax.models import families, hf, pure


def main(arguments: list[str] | None = None) -> None:
  """Runs the command line; `arguments` are those of the process unless given."""
  options = _options(arguments)
  try:
    config = families.read(options.model)
    language, scalar = pure.language_model(config), pure.scalar_model(config)
    params = hf.load(options.model, language)
  except (OSError, ValueError) as error:
    raise SystemExit(f"error: {error}") from error
  batches = tuple(int(size) for size in options.batches.split(","))
  sizes = bench.Sizes(batches, options.prompt, options.response, options.rows)
  peers = bench.peers(options.model, sizes) if options.peer else {}
  ours = bench.cases(language, scalar, params, sizes)
  rows = bench.measure(ours, peers, options.repeats, options.profile)
  result = {
    "model": options.model,
    "device": jax.devices()[0].device_kind,
    "machine": f"{platform.machine()}, {platform.system()}",
    "jax": jax.__version__,
    "sizes": vars(sizes),
    "cases": rows,
    "peak_bytes": bench.peak_bytes(),
  }
  _print(result)
  if options.json:
    pathlib.Path(options.json).write_text(json.dumps(result, indent=2) + "\n")


def _print(result: dict) -> None:
  table = rich.table.Table(box=None, pad_edge=False)
  table.add_column("case")
  for column in ("tokens/s", "seconds", "spread", "peer tokens/s", "ratio"):
    table.add_column(column, justify="right")
  for row in result["cases"]:
    peer = "peer_tokens_per_second" in row
    table.add_row(
      row["name"],
      f"{row['tokens_per_second']:,.0f}",
      f"{row['seconds']:.3f}",
      f"{row['spread']:.2f}",
      f"{row['peer_tokens_per_second']:,.0f}" if peer else "·",
      f"{row['ratio']:.2f}" if peer else "·",
    )
  console = rich.console.Console()
  console.print(table)
  console.print(f"{result['device']}; peak memory {result['peak_bytes'] / 2**30:.2f} GiB")


def _options(arguments: list[str] | None) -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--model", required=True, help="a model directory")
  parser.add_argument("--batches", default="1,8,32", help="sequences generated at once")
  parser.add_argument("--prompt", type=int, default=64, help="tokens of every prompt")
  parser.add_argument("--response", type=int, default=64, help="tokens of every response")
  parser.add_argument("--rows", type=int, default=8, help="sequences of a training step")
  parser.add_argument("--repeats", type=int, default=5, help="measured calls of each case")
  parser.add_argument("--peer", action="store_true", help="also measure transformers and torch")
  parser.add_argument("--profile", help="folder for an XProf trace of the measured calls")
  parser.add_argument("--json", help="file for the figures")
  return parser.parse_args(arguments)


if __name__ == "__main__":
  main()
