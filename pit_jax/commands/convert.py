"""Brings a published model in, or sends a run's models out.

  pit convert import --source=SmolLM2.Q4_1.gguf --output=models/smollm2
  pit convert import --source=DIRECTORY --output=models/llama --dtype=bfloat16
  pit convert import --source=BASE --adapter=ADAPTERS --output=models/tuned
  pit convert export --workdir=runs/mine --output=out --models=policy,improver
  pit convert export --workdir=runs/arms --output=out/kto --system=kto

Import reads GGUF files and Hugging Face directories (safetensors only: no pickle is opened, no code
is run), merges adapters of PEFT with them where some are given, and writes a directory for
`--config.model.base`. Export writes what transformers and vLLM
load. Of the policies that a run compares it is one, of `dpo` the first arm's and of `rft` the last
round's, unless --system names another system of the report.
"""

import argparse
import contextlib
from collections.abc import Sequence

from pit_jax import terminal

DTYPES = ("float32", "bfloat16", "float16")


@terminal.command
def main(arguments: Sequence[str]) -> None:
  """Brings a model in, or sends models out."""
  options = _options(arguments)

  from pit_jax.exchange import convert
  from pit_jax.recipes import finished, systems
  from pit_jax.storage import places

  if options.command == "import":
    more = {"tokenizer": options.tokenizer, "adapter": options.adapter}
    model = convert.bring_in(options.source, options.output, dtype=options.dtype, **more)
    print(f"{options.output}: {convert.described(options.output, model)}")
  else:
    forms = {"dtype": options.dtype, "as_adapters": options.adapters, "license": options.license}
    if options.system and options.models not in (None, ["policy"]):
      raise ValueError("--system names whose policy is written; leave --models out")
    # A system's policy is read from its checkpoints, what the run is about from what it exported.
    only = () if options.system else ("models", "report")
    with places.opened(options.workdir, only=only) as workdir, contextlib.ExitStack() as stack:
      forms["method"] = finished.presentation_of(workdir)
      if options.system:
        terminal.quiet()
        forms["system"] = options.system
        workdir = stack.enter_context(systems.exported(workdir, options.system))
      for directory in convert.send_out(workdir, options.output, options.models, **forms):
        print(directory)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
  parser = terminal.Parser(__doc__)
  kinds = parser.add_subparsers(dest="command", required=True)
  bring = kinds.add_parser("import", help="a GGUF file or a directory becomes a directory")
  bring.add_argument("--source", required=True, help="a .gguf file, or a directory")
  bring.add_argument("--adapter", help="a directory of PEFT with adapters of the source, to merge")
  bring.add_argument("--tokenizer", help="a tokenizer directory; else the source's own")
  send = kinds.add_parser("export", help="models of a finished run become directories")
  send.add_argument("--workdir", required=True, help="folder of the run, or its gs:// address")
  send.add_argument(
    "--models",
    type=terminal.words,
    help="which of policy, improver, reward, gap_reward, implicit_reward, reference, separated by "
    "commas; else all there are",
  )
  send.add_argument(
    "--system",
    help="of the report, such as kto or rft_1, whose policy is written, from checkpoints",
  )
  send.add_argument(
    "--adapters", action="store_true", help="as PEFT adapters beside their base, not merged"
  )
  send.add_argument(
    "--license", help="of what is written, as the Hub abbreviates it; else that of the base's card"
  )
  for command in (bring, send):
    command.add_argument("--output", required=True, help="the folder to write")
    command.add_argument("--dtype", default="float32", choices=DTYPES, help="of the tensors")
  return parser.parse_args(arguments)
