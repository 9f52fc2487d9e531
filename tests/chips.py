"""Programs compiled for TPUs, which needs none of them: a script in a process of its own."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
NEEDED = pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None, reason="no libtpu; the extra `tpu-plan` brings it"
)


def passes(script: str) -> None:
  """Runs a script, whose assertions must hold, where the TPU compiler works without a TPU."""
  told = {"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1", "JAX_PLATFORMS": "cpu"}
  done = subprocess.run(
    [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, env=os.environ | told
  )
  assert done.returncode == 0, done.stderr
