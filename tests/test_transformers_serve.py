"""A model behind `transformers serve` teaches as one behind any endpoint does."""

import contextlib
import math
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import NamedTuple

import chat_teacher
import jax
import ml_collections
import pytest
import smollm2
import test_srt_chat
import tiny_run

from pit_jax.data import critiques, prompt_formats
from pit_jax.feedback import named, writers
from pit_jax.recipes.srt import arms
from pit_jax.run import context as contexts
from pit_jax.stages import criticism, sft

pytestmark = [pytest.mark.slow, pytest.mark.parity]
PROMPTS = ["What is the capital of France?", "Write one short sentence about the sea."]
CHATS = prompt_formats.Format("policy", plain="{prompt}").conversations(PROMPTS)
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


class Told(NamedTuple):
  """What was told while the server ran, which is gone; a run, and what it asks again is kept."""

  context: contexts.Context
  writers: dict[str, writers.Writer]
  texts: dict[str, writers.Written]  # by writer
  criticised: dict[str, criticism.Criticisms]  # by arm, as `forms`


def forms(c):
  """Returns the forms of two arms of SRT: SmolLM2 keeps to one that is a better answer alone."""
  whole = critiques.form_of(c.critique)
  return {arm.stage: arm.form(whole) for arm in (arms.METHOD, arms.PLAIN)}


def criticise(context, teacher):
  """Returns what a teacher says of four drafts in each form."""
  drafts = [(prompt, test_srt_chat.ANSWER) for prompt in test_srt_chat.PROMPTS]
  how = {"written_by": arms.DRAFTS, "temperature": 0.0, "most_failed": 1.0}
  found = {}
  for start, (name, form) in zip((0, 4), forms(context.config).items(), strict=True):
    parts = {"rows": drafts[start : start + 3], "validation": drafts[start + 3 : start + 4]}
    found[name] = criticism.criticised(context, f"{name}_critiques", parts, teacher, form, **how)
  return found


@pytest.fixture(scope="module")
def told(tmp_path_factory):
  """What a served model and the same one here say; the run is that of a small chat model."""
  pytest.importorskip("torch", reason="torch is absent; install the extra `parity`")
  pytest.importorskip("fastapi", reason="fastapi is absent; install the extra `parity`")
  directory = str(smollm2.directory())
  folder = tmp_path_factory.mktemp("served")
  here = {"kind": "directory", "directory": directory, "max_tokens": LONGEST}
  with served(directory, folder / "log.txt") as address:
    config = test_srt_chat.configured(folder, chat_teacher.model("tiny", folder), address)
    patient = {"timeout": float(PATIENCE), "concurrency": 1}  # it replies to one after the other
    config.feedback.writers.teacher.update(model=directory, max_tokens=LONGEST, **patient)
    with config.unlocked():
      config.feedback.writers.here = ml_collections.ConfigDict(here | {"max_prompt_tokens": 96})
    context = tiny_run.build(config, folder / "run")
    asked = {name: named.build(context, "writers", name) for name in ("teacher", "here")}
    texts = {name: one.write(CHATS, jax.random.key(0), 0.0) for name, one in asked.items()}
    criticised = criticise(context, asked["teacher"])
  return Told(context, asked, texts, criticised)


def test_what_it_writes_is_what_the_same_model_writes_here_and_is_asked_for_once(told):
  there, here = told.texts["teacher"], told.texts["here"]
  assert there.failures == {} and all(text for (text,) in here.texts)
  assert there.texts == here.texts
  # The server is gone: what it said is kept.
  again = told.writers["teacher"].write(CHATS, jax.random.key(0), 0.0)
  assert again.texts == there.texts


def test_every_draft_that_it_criticises_is_counted_and_kept(told):
  for name, found in told.criticised.items():
    assert sum(found.counts.values()) == len(found.made.rows) == 4
    assert all(row["critique"] and "failure" not in row for row in found.made.rows)
    outcomes = [row.outcome for rows in found.parts.values() for row in rows]
    form = forms(told.context.config)[name]
    for row, outcome in zip(found.made.rows, outcomes, strict=True):
      _, _, expected = form.refine(row["draft"], row["critique"], (row["prompt"],), (form.asked,))
      assert outcome == expected
  # It is too small to keep to the whole form, within so few tokens.
  assert sum(told.criticised[arms.FIRST].failures.values()) > 0
  assert criticise(told.context, told.writers["teacher"]) == told.criticised


def test_a_chat_model_learns_its_better_answers(told):
  context = told.context
  useful = told.criticised[arms.PLAIN.stage].useful
  assert all(useful.values())
  form = critiques.form_of(context.config.critique)
  shown = context.rows.settings.formats["policy"]
  lessons = arms.lessons(arms.PLAIN, useful, form, shown, is_direct=True, seed=0)
  start = context.initial_policy()
  learnt = sft.learn(context, arms.PLAIN.stage, lessons, start=start, job=context.config.tuning)
  assert math.isfinite(learnt.facts["validation/loss"])
  moved = jax.tree.map(lambda a, b: bool((a != b).any()), start, learnt.params)
  assert any(jax.tree.leaves(moved))
