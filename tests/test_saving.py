"""A save that fails or hangs ends the run with a plain message, and what was saved before loads."""

import contextlib
import os
import pathlib
import resource
import threading

import jax.numpy as jnp
import numpy as np
import pytest

from pit_jax.training import checkpoint, keeping, loop

SIZE = 1_000_000  # of the state, in floats: far more than the limit below


@contextlib.contextmanager
def no_room(limit=100_000):
  """Lets no file of this process grow beyond so many bytes, as on a disk that is full."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def start():
  return {"w": jnp.asarray(np.random.default_rng(0).normal(size=SIZE).astype(np.float32))}


def train(workdir, advance):
  settings = {"steps": 20, "log_every": 5, "save_every": 5, "metadata": {}}
  return loop.fit("toy", advance, start(), workdir=workdir, **settings)


def take(state, step):
  return {"w": state["w"] * 0.9 + step}, {"loss": state["w"][0]}, {}


def test_a_full_disk_stops_the_run_and_the_last_good_checkpoint_loads(tmp_path):
  expected, room = train(tmp_path / "whole", take), contextlib.ExitStack()

  def filling(state, step):
    if step == 7:  # steps 1 to 5 are saved
      checkpoints = tmp_path / "full" / "checkpoints" / "toy"
      while not (checkpoints / "5").exists():
        pass
      room.enter_context(no_room())
    return take(state, step)

  with room, pytest.raises(checkpoint.SaveError) as error:
    train(tmp_path / "full", filling)
  said = str(error.value)
  assert "could not be written" in said and "step 5 is the newest complete one" in said
  assert "room on the disk" in said and "File too large" in said
  taken = []
  ended = train(tmp_path / "full", lambda state, step: taken.append(step) or take(state, step))
  assert taken[0] == 5
  np.testing.assert_array_equal(ended["w"], expected["w"])


def test_a_save_that_hangs_is_given_up(tmp_path, monkeypatch):
  rename, released = os.rename, threading.Event()

  def hanging(source, target, **settings):
    if pathlib.Path(target).name == "2":
      released.wait()
    return rename(source, target, **settings)

  monkeypatch.setattr(os, "rename", hanging)
  patient = keeping.Keeping(timeout=1.0)
  state = {"w": jnp.ones(3)}
  try:
    with (
      pytest.raises(checkpoint.HangingError, match="not complete after 1 s; step 1 is the newest"),
      checkpoint.Checkpoints(tmp_path, patient) as saved,
    ):
      saved.save(1, state, {})
      saved.save(2, state, {})
      saved.save(3, state, {})
  finally:
    released.set()
