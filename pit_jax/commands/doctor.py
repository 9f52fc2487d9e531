"""Examines preferences before they are trained on.

  pit doctor --source=jsonl:preferences.jsonl [--html=doctor.html] [--json=doctor.json]
  pit doctor --source=hh:hh_harmless.jsonl.gz --tokenizer=models/base

Says what is lost to the length limits, which rows are copies or nearly, what leaks between the
folds that training would make, which labels contradict each other or run in circles, how noisy they
are, and what length and position decide. Rows that cannot be used are counted, and the others
examined. Without --tokenizer one is learnt from the rows of the imitation fold, as training does;
with the directory of a base model prompts are shown in its own chat template, where it has one.
The defaults are those of pit:small, or of the run that --config describes, as for `pit train`
(--config=pit:tiny, --config.KEY=VALUE, --values=FILE.yaml); then it says too how many steps each
stage takes.

  pit doctor --source=jsonl:preferences.jsonl --revise=runs/demo --kept=kept.jsonl

With --revise the improver of a finished run, or of several, rewrites either answer of some pairs,
and the first run's reward model scores what they wrote: does this preference make revisions better?
--kept writes the pairs of which it does (MARV, arXiv 2410.15287).
"""

import argparse
from collections.abc import Sequence

import ml_collections

from pit_jax import arguments, configurations, terminal


@terminal.command
def main(asked: Sequence[str]) -> None:
  """Examines what is named, and tells what was found."""
  options = _options(asked)

  from pit_jax.tools.doctor import examining

  examining.run(options)


def _options(asked: Sequence[str]) -> argparse.Namespace:
  """Returns the options; where a configuration is named, its values are their defaults."""
  first = terminal.Parser(add_help=False)
  first.add_argument("--config")
  first.add_argument("--source")
  first.add_argument("--tokenizer")
  named, others = first.parse_known_args(asked)
  values = [
    word for word in others if word.startswith((configurations.PREFIX, configurations.VALUES))
  ]
  if values and named.config is None:
    raise ValueError(f"{values[0]}: name the configuration too, as --config=pit:small")
  config = configurations.load(named.config) if named.config else configurations.load("pit:small")
  config = config.copy_and_resolve_references()
  configurations.change(config, values)
  if named.source is not None:
    with config.unlocked():  # which base a run starts from may depend on it
      config.data.source = named.source
  parser = _parser(config, named.config is not None, named.tokenizer)
  options = parser.parse_args([word for word in asked if word not in values])
  options.config = config
  options.is_configured = named.config is not None
  if options.kept and not options.revise:
    parser.error("--kept writes pairs that were revised; name runs that revise as --revise=RUN,…")
  if options.kept:
    arguments.output("--kept", options.kept)
  return options


def _parser(
  config: ml_collections.ConfigDict, is_configured: bool, tokenizer: str | None
) -> terminal.Parser:
  """Returns the parser of the command's own flags, whose defaults are a configuration's values.

  A tokenizer that is given stands for that of the configuration's base, which need not be there.
  """
  data = config.data
  chat_kind = "auto"
  rows = None
  if is_configured:
    from pit_jax.run import origin  # with all of JAX, which takes seconds

    # A base model brings its tokenizer, and a chat template that the run may take.
    base = origin.named(config) if tokenizer else origin.directory(config)
    tokenizer = tokenizer or str(base or data.tokenizer) or None
    rows = data.rows
    chat_kind = "plain" if data.chat == "auto" and base is None else data.chat
  parser = terminal.Parser(__doc__)
  add = parser.add_argument
  source = {"default": data.source} if is_configured else {"required": True}
  add("--source", help="as data.source: jsonl:PATH, hh:PATH, hf:NAME, synthetic, …", **source)
  add("--config", help="NAME:SIZE, such as pit:tiny, whose values are the defaults of what follows")
  add("--schema", default=data.schema, help=f"what the rows call things ({data.schema})")
  add("--columns", default=data.columns, help="as data.columns: prompt=COLUMN,chosen=COLUMN,…")
  add("--rows", type=terminal.at_least(1), default=rows, help="the most usable rows to take (all)")
  add("--seed", type=int, default=config.seed, help="which rows the synthetic source makes (0)")
  parser.add_argument("--streaming", action="store_true", help="hf: fetch rows as they are read")
  add("--tokenizer", default=tokenizer, help="a tokenizer's or a model's directory")
  add("--chat", default=chat_kind, help=f"with --tokenizer: auto, plain, model ({chat_kind})")
  for name, kind, what in (
    ("vocabulary", terminal.at_least(1), "tokens of a tokenizer that is learnt"),
    ("max_prompt_length", terminal.at_least(1), "tokens of a prompt, its template included"),
    ("max_response_length", terminal.at_least(1), "tokens of a response, its end included"),
    ("held_out", terminal.fraction, "fraction of prompts that is held out"),
    ("validation", terminal.fraction, "fraction of the imitation and reward folds to validate on"),
    ("judge", terminal.fraction, "fraction of the reward fold for a judge of its own"),
  ):
    add(f"--{name}", type=kind, default=data[name], help=f"{what} ({data[name]})")
  together = f"what one fold holds together: prompt, cluster ({data.fold_by})"
  add("--fold_by", default=data.fold_by, help=together)
  add("--revise", type=_places, metavar="RUN,…", help="workdirs whose improvers revise pairs")
  add("--revise_rows", type=terminal.at_least(1), default=200, help="pairs to revise (200)")
  add("--revise_samples", type=terminal.at_least(1), default=4, help="of each answer (4)")
  add("--kept", metavar="FILE", help="file for the pairs that make revisions better, JSON lines")
  add("--html", help="file for the page")
  add("--json", help="file for the figures, and the places of all rows concerned")
  return parser


def _places(text: str) -> tuple[str, ...]:
  """Returns the workdirs of a list with commas; raises an ArgumentTypeError where one is empty."""
  places = tuple(part.strip() for part in text.split(","))
  if not all(places):
    raise argparse.ArgumentTypeError(f"{text!r} names no run; write --revise=runs/demo")
  return places
