"""Trains as `launch/train.py` does, with a report whose figures are painted nowhere."""

import sys

import tiny_run

from pit_jax.commands import train

with tiny_run.unrendered():
  train.main(sys.argv[1:])
