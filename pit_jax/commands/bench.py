"""Measures this machine: tokens per second of generation and of every training step.

  pit bench --model=models/base [--cases=generate,sft] [--peer] [--memory] [--json=bench.json]

The model is a directory as `pit convert import` writes it. With --peer (extra `parity`) the
same work goes through transformers' `generate`, a plain torch AdamW loop and TRL's DPOTrainer on
the same weights, alternating with ours in one run; what is printed are medians and their ratios.
The peer of several samples of one prompt is our own sampling of as many prompts, and that of an
ensemble of reward models one of them, always there.
With --memory each case is done once more before, in a process of its own, ours and the peer's: so
nothing else counts in its peak memory. With --rank adapters are trained on one frozen base, as
`model.lora.rank` does in a run, and TRL's are PEFT's. --attention is what
`model.attention` is in a run, and --dtype what products are computed in: unless it is given,
float32 on CPUs, and elsewhere bfloat16, as in the large sizes of configs/. The peer has float32.
Weights are laid out for generation before it, which is a case of its own. On a device whose peaks
are known, `mfu` and `bandwidth` are shares of them; its peak of operations is that of bfloat16,
whatever the products are computed in. --profile writes an XProf trace. With --source cases are
added: one tokenises those preferences into a set on disk, one scores their pairs, others rewrite
chosen responses as an improver does, and the peer of a single one has prompt lookup; one is an
iteration of the improver's RL. --quick takes small sizes and one measured call.
"""

import argparse
from collections.abc import Sequence

from pit_jax import terminal
from pit_jax.models import architecture

DTYPES = ("auto", "float32", "bfloat16")
# A look in a few minutes: what is said of a case is then of one call.
QUICK = {"batches": (1, 8), "prompt": 32, "response": 32, "rows": 4, "mixed": 16, "repeats": 1}


@terminal.command
def main(arguments: Sequence[str]) -> None:
  """Measures this machine."""
  options = _options(arguments)

  from pit_jax.tools.bench import measuring

  measuring.measure(options)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
  parser = terminal.Parser(__doc__)
  add = parser.add_argument
  count = terminal.at_least(1)
  add("--model", required=True, help="a model directory")
  add("--cases", default="", help="words of the cases' names; none are all")
  add(
    "--batches",
    type=terminal.counts,
    default=(1, 8, 32),
    help="sequences generated at once: 1,8,32",
  )
  add("--prompt", type=count, default=64, help="tokens of every prompt")
  add("--response", type=count, default=64, help="tokens of every response")
  add("--rows", type=count, default=8, help="sequences of a training step")
  add("--mixed", type=count, default=64, help="sequences of very different lengths")
  add("--rank", type=int, default=0, help="of adapters to train; 0 trains all")
  add("--remat", choices=architecture.REMATS, default="none", help="as model.remat of a run")
  add("--dtype", choices=DTYPES, default="auto", help="of products; auto: by the devices")
  add(
    "--attention", choices=architecture.KERNELS, default="auto", help="as model.attention of a run"
  )
  add("--repeats", type=count, default=5, help="measured calls of each case")
  add("--source", help="preferences to tokenise and to rewrite, as data.source names them")
  add("--peer", action="store_true", help="also measure transformers, torch and TRL")
  add("--memory", action="store_true", help="also measure each case's peak memory by itself")
  add(
    "--quick", action="store_true", help="small sizes and one measured call, unless they are given"
  )
  add("--profile", help="folder for an XProf trace of the measured calls")
  add("--json", help="file for the figures")
  options = parser.parse_args(arguments)
  if options.quick:  # what is given all the same stays
    parser.set_defaults(**QUICK)
    options = parser.parse_args(arguments)
  return options
