"""Improves a file of answers, or one that is typed in.

  pit improve --workdir=runs/demo --input=in.jsonl --output=out.jsonl
  pit improve --workdir=runs/demo

A row {prompt, response?}, the prompt a text or a list of messages {role, content}, comes back with

  improved  the answer that the stop rule keeps
  rounds    [{text, gap}]: every version made, with what it gains over the one before it by the
            stop rule; the last one may be the first without a gain
  stopped   the round at which the stop rule ended, null if it never did
  drafted_by  "input", or "policy" where `response` is absent or empty: the policy writes it then
  is_cut    whether the models saw prompt or response shortened to their length limits

A row that cannot be used comes back with `line` and `error`, and the others go on. The end says how
many drafts the policy wrote, and which fields of those rows are not read. Input may be gzipped; an
output named .gz is; - is the standard input or output. The output gets its name when it is
complete. Without --input, prompts are typed, or a conversation is pasted as a JSON list of its
messages; the end of each says which version is kept, and why no more follow.
Versions of a run that was trained with principles are better by those that --principles names, or
by the run's own list: `--principles=concise,not:polite`.
Scores of answers: `pit_jax.load(...).score(...)`.
"""

import argparse
import math
from collections.abc import Sequence

from pit_jax import terminal
from pit_jax.improve import gains


@terminal.command
def main(arguments: Sequence[str]) -> None:
  """Improves a file, or what is typed in."""
  options = _options(arguments)

  from pit_jax.api import runs
  from pit_jax.tools import improving

  def load(batch_size: int) -> runs.Run:
    given = {name: getattr(options, name) for name in ("mesh", "margin", "stop_rule")}
    return runs.load(options.workdir, batch_size=batch_size, **given)

  asking = improving.Asking(options.rounds, options.temperature, options.seed, options.principles)
  if options.input is None:
    improving.converse(load(1), asking)
  else:
    improving.improve_file(options.input, options.output, lambda: load(options.batch_size), asking)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
  parser = terminal.Parser(__doc__)
  add = parser.add_argument
  add("--workdir", required=True, help="a finished run with an improver: folder, or gs:// address")
  add("--input", help="JSON lines, gzipped or not; - is the standard input")
  add("--output", help="where to write; an older file is replaced; - is the standard output")
  listed = "names of the run's principles, not: before one that is negated (its own list)"
  add("--principles", help=listed)
  add("--rounds", type=terminal.at_least(1), default=3, help="versions to make at most (3)")
  add("--temperature", type=terminal.at_least(0.0), default=1.0, help="0: most likely tokens (1.0)")
  margin = "a version is kept when it gains more than this (0.0); -inf keeps every version"
  add("--margin", type=terminal.at_least(-math.inf), default=0.0, help=margin)
  rule = "R_PIT in both orders, less the draft's own zero, or less one zero for all (both_orders)"
  add("--stop_rule", choices=gains.RULES, default=gains.RULES[0], help=rule)
  add("--seed", type=int, default=0, help="another seed, other samples (0)")
  add("--batch_size", type=terminal.at_least(1), default=64, help="rows per compiled call (64)")
  add(
    "--mesh",
    type=terminal.sizes,
    default=(-1, 1, 1),
    help="data,fsdp,tensor; -1: the rest (-1,1,1)",
  )
  options = parser.parse_args(arguments)
  if (options.input is None) != (options.output is None):
    parser.error("--input and --output go together; give both, or neither to type prompts in")
  return options
