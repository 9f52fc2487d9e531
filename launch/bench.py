"""`python launch/bench.py …` is `pit bench …`, for a checkout."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from pit_jax.commands import bench

if __name__ == "__main__":
  bench.main()
