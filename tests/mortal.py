"""Runs of recipe pit that signals end at chosen moments, in processes forked from a warm one."""

import contextlib
import dataclasses
import functools
import itertools
import multiprocessing
import os
import pathlib
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from unittest import mock

import tiny_run

STEPS, SAVED_EVERY = 5, 2
PLACES = (  # what a run comes to, in this order: stages, and files that are written once
  "sft_policy",
  "reward",
  "reward.json",
  "rl_policy",
  "sft_improver",
  "gap_reward",
  "gap_reward.json",
  "policy.jsonl",
  "pit_data",
  "pit_policy",
  "results.json",
)
STAGES = tuple(place for place in PLACES if "." not in place)


@dataclasses.dataclass(frozen=True)
class Moment:
  """When a signal comes: at an event, or some time after it."""

  kind: str  # "step": a step is about to be taken; "file": what was written gets its final name
  place: str  # of PLACES; the files of a stage are its checkpoints
  step: int = 0  # completed steps; the event is the first at this place and step, or later
  signal: int = signal.SIGKILL
  delay: float = 0.0  # seconds
  devices: int = 1  # of the process that it happens to

  def is_at(self, kind: str, place: str, step: int) -> bool:
    """Returns whether this is the event, or a later one of its kind."""
    mine, here = (PLACES.index(self.place), self.step), (PLACES.index(place), step)
    return kind == self.kind and here >= mine


def draw(chance: random.Random, kind: str, stage: str, number: int, devices: int = 1) -> Moment:
  """Returns a random moment of a stage."""
  step, delay = chance.randrange(1, STEPS - 1), round(chance.uniform(0.0, 0.08), 3)
  return Moment(kind, stage, step, number, delay, devices)


def run(workdir: pathlib.Path, moments: Sequence[Moment], devices: int) -> int:
  """Runs recipe pit to its end through all the moments, in as many processes as that takes.

  A process that is killed is followed by another. After a SIGTERM that ends the run in good order
  the same process begins again from what is on disk, as a new one would, but faster.

  Args:
    workdir: of the run.
    moments: in the order in which they come.
    devices: of the process that comes to the end.

  Returns:
    How many processes it took.
  """
  context = multiprocessing.get_context("forkserver")
  context.set_forkserver_preload(["pit_jax.recipes.running", "pit_jax.recipes.pit"])
  came, log = workdir.with_suffix(".came"), workdir.with_suffix(".log")
  came.write_text("")
  count, is_over = 0, False
  while not is_over:
    left = moments[len(came.read_text()) :]
    here = left[0].devices if left else devices
    mine = list(itertools.takewhile(functools.partial(_is_on, here), left))
    is_last = len(mine) == len(left) and here == devices
    process = context.Process(target=_live, args=(workdir, mine, here, is_last))
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL, -signal.SIGTERM), log.read_text()[-3000:]
    count, is_over = count + 1, process.exitcode == 0 and is_last
  assert len(came.read_text()) == len(moments), "the run ended before all signals came"
  return count


def _is_on(devices: int, moment: Moment) -> bool:
  return moment.devices == devices


def _live(workdir: pathlib.Path, moments: list[Moment], devices: int, is_last: bool) -> None:
  """Runs the recipe in this process, which has yet to start JAX, until it ends or is killed."""
  log = os.open(workdir.with_suffix(".log"), os.O_CREAT | os.O_APPEND | os.O_WRONLY)
  for stream in (sys.stdout, sys.stderr):
    os.dup2(log, stream.fileno())
  import jax  # the import was made before the fork; what it starts was not started

  jax.config.update("jax_num_cpu_devices", devices)
  from pit_jax.recipes import running
  from pit_jax.training import interruption

  changes = {f"{stage}__steps": STEPS for stage in ("sft", "reward", "gap_reward", "rl")}
  changes |= {"save_every": SAVED_EVERY, "save_every_rl": SAVED_EVERY, "mesh__shape": (-1, 1, 1)}
  config = tiny_run.config(**changes)
  for stage in config.curriculum:
    stage.steps = STEPS
  signals = _Signals(moments, workdir.with_suffix(".came"))
  with tiny_run.unrendered(), signals.watching():
    is_over = False
    while not is_over and (signals.left or is_last):
      with contextlib.suppress(interruption.Interrupted):
        running.run(config, workdir)
        is_over = True


class _Signals:
  """Sends this process the signal of each moment when it comes."""

  def __init__(self, moments: Sequence[Moment], came: pathlib.Path):
    self.left, self._came, self._is_coming = list(moments), came, threading.Lock()

  @contextlib.contextmanager
  def watching(self) -> Iterator[None]:
    """Watches over the steps that stages take and over the files that get their final name."""
    from pit_jax.training import loop

    names = {name: self._naming(getattr(os, name)) for name in ("rename", "replace")}
    with (
      mock.patch.object(loop, "fit", self._fitting(loop.fit)),
      mock.patch.multiple(os, **names),
    ):
      yield

  def _fitting(self, fit: Callable) -> Callable:
    def watched(stage, advance, *rest, **settings):
      def step(state, index):
        self._pass("step", stage, index)
        return advance(state, index)

      return fit(stage, step, *rest, **settings)

    return watched

  def _naming(self, function: Callable) -> Callable:
    def watched(source, target, **settings):
      path = pathlib.Path(target)
      if path.name in PLACES:
        self._pass("file", path.name, 0)
      elif path.parent.name in STAGES and path.name.isdecimal():
        self._pass("file", path.parent.name, int(path.name))
      return function(source, target, **settings)

    return watched

  def _pass(self, *event: str | int) -> None:
    """Notices an event; checkpoints get their names in a thread of their own."""
    if self.left and self.left[0].is_at(*event) and self._is_coming.acquire(blocking=False):
      if self.left[0].delay:
        threading.Timer(self.left[0].delay, self._send).start()
      else:
        self._send()

  def _send(self) -> None:
    with self._came.open("a") as file:
      file.write(".")
    number = self.left.pop(0).signal
    self._is_coming.release()
    os.kill(os.getpid(), number)
