"""Prints every key of a configuration: its value, what it means, and what it may be.

  pit config pit:tiny                         all keys
  pit config pit:tiny --key=rl.               those that begin so
  pit config pit:tiny --values=mine.yaml --config.rl.steps=9     with values of your own
  pit config --diff pit:tiny pit:1b           what differs between two, with --key too
  pit config --diff runs/a runs/b             the same of two runs, by their workdirs
  pit config pit:tiny --yaml > mine.yaml      as a file for --values

A configuration is NAME:SIZE of one that the library has, or FILE.py:SIZE.
"""

import argparse
from collections.abc import Sequence

from pit_jax import terminal


@terminal.command
def main(arguments: Sequence[str]) -> None:
  """Prints one configuration, or how two differ."""
  options, values = _options(arguments)

  from pit_jax.tools import keys

  names = options.diff or [options.name]
  described = [keys.values_of(name) for name in options.diff or ()]
  described = described or [{key.key: key for key in keys.described(options.name, values)}]
  chosen = [{k: v for k, v in one.items() if k.startswith(options.key)} for one in described]
  if not any(chosen):
    raise ValueError(f"--key={options.key}: no key of {' and '.join(names)} begins so")

  if options.diff:
    print(keys.difference(*chosen))
  else:
    (shown,) = chosen
    print((keys.as_yaml if options.yaml else keys.listing)([*shown.values()]))


def _options(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
  """Returns the options, and the values of the configuration among the arguments."""
  parser = terminal.Parser(__doc__)
  add = parser.add_argument
  add("name", nargs="?", help="the configuration, such as pit:tiny")
  add("--diff", nargs=2, metavar="NAME", help="two configurations, or workdirs, to compare")
  add("--key", default="", help="how the keys begin that are printed (all)")
  add("--yaml", action="store_true", help="print a file that --values reads")
  options, values = parser.parse_known_args(arguments)
  if (options.name is None) == (options.diff is None):
    parser.error("name one configuration, or two with --diff")
  if options.diff and values:
    given = " ".join(values)
    parser.error(
      f"{given}: values are set in one configuration, and --diff names two; leave them out"
    )
  if options.diff and options.yaml:
    parser.error("--yaml prints one configuration, and --diff names two; leave one of them out")
  return options, values
