"""A model behind `transformers serve` teaches as one behind any endpoint does."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import jax
import ml_collections
import pytest
import smollm2
import tiny_models
import tiny_run

from pit_jax.data import prompt_formats
from pit_jax.feedback import named

pytestmark = [pytest.mark.slow, pytest.mark.parity]
PROMPTS = ["What is the capital of France?", "Write one short sentence about the sea."]
LONGEST = 24  # tokens of a reply
PATIENCE = 300  # seconds until the server answers


@contextlib.contextmanager
def served(directory, log):
  """Yields the address of a server of the model in a directory."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  options = ["--host=127.0.0.1", f"--port={port}", "--device=cpu", "--dtype=float32"]
  command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(directory)]
  with log.open("w") as output:
    # Other processes that tests start see no torch.
    seen = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    server = subprocess.Popen([*command, *options], stdout=output, stderr=output, env=seen)
  try:
    _wait(server, f"http://127.0.0.1:{port}/health", log)
    yield f"http://127.0.0.1:{port}/v1"
  finally:
    server.kill()
    server.wait()


def _wait(server, address, log):
  end = time.monotonic() + PATIENCE
  while time.monotonic() < end and server.poll() is None:
    with contextlib.suppress(urllib.error.URLError, ConnectionError):
      if urllib.request.urlopen(address, timeout=5).status == 200:
        return
    time.sleep(0.5)
  pytest.fail(f"the server did not answer:\n{log.read_text()[-2_000:]}")


def test_what_it_writes_is_what_the_same_model_writes_here_and_is_asked_for_once(tmp_path):
  pytest.importorskip("torch", reason="torch is absent; install the extra `parity`")
  pytest.importorskip("fastapi", reason="fastapi is absent; install the extra `parity`")
  directory = str(smollm2.directory())
  context = tiny_run.pretended(tiny_models.inference_of(tmp_path / "words"))
  context.config, context.workdir = tiny_run.config().unlock(), tmp_path
  here = {"kind": "directory", "directory": directory, "max_tokens": LONGEST}
  asked = prompt_formats.Format("policy", plain="{prompt}").conversations(PROMPTS)

  with served(directory, tmp_path / "log.txt") as address:
    there = {"kind": "endpoint", "model": directory, "base_url": address, "max_tokens": LONGEST}
    sections = {"here": {**here, "max_prompt_tokens": 96}, "there": there}
    context.config.feedback = ml_collections.ConfigDict({"writers": sections})
    writers = {name: named.build(context, "writers", name) for name in sections}
    said = {name: one.write(asked, jax.random.key(0), 0.0) for name, one in writers.items()}

  assert said["there"].failures == {} and all(text for (text,) in said["here"].texts)
  assert said["there"].texts == said["here"].texts
  # The server is gone: what it said is kept.
  again = writers["there"].write(asked, jax.random.key(0), 0.0)
  assert again.texts == said["there"].texts
