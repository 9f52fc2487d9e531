"""Compiled programs: the seconds they take, whether one is on its way, and where they are kept.

A process that compiles for a CPU maps each of them into its memory, some kernels at a time, and
Linux lets it map no more than 65,530 pieces. Past them the process dies of a segmentation fault.

JAX keeps programs on disk under a hash of all that decides them. A program of a CPU holds
instructions that others may lack, which that hash does not know; so machines of different kinds
have folders of their own below the one that is given.
"""

import contextlib
import gc
import hashlib
import logging
import pathlib
import platform
import threading
import time
import warnings
from collections.abc import Iterator

import jax
from jax.experimental.compilation_cache import compilation_cache

PARTS = (
  "/jax/core/compile/jaxpr_to_mlir_module_duration",
  "/jax/core/compile/backend_compile_duration",
)
BACKEND = PARTS[1]  # in which Python does not run
# Of /proc/cpuinfo, what decides which instructions a compiler uses.
CPU = ("vendor_id", "cpu family", "model", "flags", "CPU implementer", "CPU part", "Features")
UNREADABLE = "Error reading persistent compilation cache entry"  # how JAX's warning of it begins
_LOG = logging.getLogger(__name__)


class _Clock:
  """What the programs of this process took to compile, and those on their way."""

  def __init__(self):
    self._lock = threading.Lock()
    self._seconds = 0.0
    self._since: dict[int, float] = {}  # thread → when it began to compile

  def begin(self, event: str, value: float | int, **_: object) -> None:
    """Takes a scalar of JAX: what is timed has begun."""
    if event == BACKEND:
      self._since[threading.get_ident()] = time.monotonic()

  def end(self, event: str, seconds: float, **_: object) -> None:
    """Takes a duration of JAX: what was timed has ended."""
    if event in PARTS:
      with self._lock:
        self._seconds += seconds
    if event == BACKEND:
      self._since.pop(threading.get_ident(), None)

  def seconds(self) -> float:
    """Returns the seconds so far."""
    with self._lock:
      return self._seconds

  def is_under_way(self, thread: int | None) -> bool:
    """Returns whether a thread compiles now."""
    return thread in self._since


_CLOCK = _Clock()  # one for the process: each further listener would be called as well
jax.monitoring.register_scalar_listener(_CLOCK.begin)
jax.monitoring.register_event_duration_secs_listener(_CLOCK.end)


def seconds() -> float:
  """Returns the seconds of all compilations of this process; what is read from disk takes few.

  Tracing a program for the first time does not count.
  """
  return _CLOCK.seconds()


def is_under_way(thread: int | None) -> bool:
  """Returns whether a thread, by its `threading.get_ident`, compiles a program now.

  None is one that was not started, which does not. No handler of a signal runs in it meanwhile.
  """
  return _CLOCK.is_under_way(thread)


@contextlib.contextmanager
def kept(folder: pathlib.Path, limit: int) -> Iterator[None]:
  """Within the block, programs are read from a folder where they are there, else written into it.

  Nothing that is computed depends on it. A damaged file is told, and replaced. What the environment
  or the program says of JAX's own settings (JAX_COMPILATION_CACHE_DIR) goes before.

  Args:
    folder: may be shared by runs and by machines.
    limit: bytes in it for machines of this kind; those that were not used for longest are removed.
  """
  if jax.config.jax_compilation_cache_dir is not None:
    yield
    return

  changed = {
    "jax_compilation_cache_dir": str(pathlib.Path(folder).absolute() / machine()),
    "jax_compilation_cache_max_size": limit,
    # Most programs of a small run compile faster than the second that JAX asks for.
    "jax_persistent_cache_min_compile_time_secs": 0.0,
  }
  before = {name: getattr(jax.config, name) for name in changed}
  _set(changed)
  try:
    with _mended(pathlib.Path(changed["jax_compilation_cache_dir"])):
      yield
  finally:
    _set(before)


@contextlib.contextmanager
def _mended(folder: pathlib.Path) -> Iterator[None]:
  """Within the block a file of the folder that holds no whole program is removed when it is read.

  JAX warns of it in words of its own, compiles the program, and writes no file where one is.
  """
  shown = warnings.showwarning

  def show(message, *about, **further):
    if not str(message).startswith(UNREADABLE):
      shown(message, *about, **further)
      return
    # JAX notes when it reads a program, just before. Should another process have read a sound one
    # since, then that is compiled once more, and this one at the next start.
    read = max(folder.glob("*-atime"), key=lambda path: path.stat().st_mtime_ns, default=None)
    if read is not None:
      file = read.with_name(read.name.removesuffix("-atime") + "-cache")
      file.unlink(missing_ok=True)
      _LOG.warning("%s: holds no whole program; it is compiled again, and written anew", file)

  with warnings.catch_warnings():
    warnings.filterwarnings("always", UNREADABLE)
    warnings.showwarning = show
    yield


def _set(values: dict) -> None:
  for name, value in values.items():
    jax.config.update(name, value)

  # JAX looks at its settings once, as it first compiles; a process may have compiled already.
  compilation_cache.reset_cache()


def share_of_maps() -> float:
  """Returns how much of the pieces of memory that this process may map it has, from 0 to 1.

  Zero where the system does not say.
  """
  with contextlib.suppress(OSError, ValueError):
    limit = int(pathlib.Path("/proc/sys/vm/max_map_count").read_text(encoding="utf-8"))
    with pathlib.Path("/proc/self/maps").open("rb") as maps:
      return sum(1 for _ in maps) / limit

  return 0.0


def forget() -> None:
  """Drops the programs of this process; each is compiled, or read, again when it is wanted."""
  jax.clear_caches()
  gc.collect()


def machine() -> str:
  """Returns a name of the kind of this machine, by whose instructions programs are compiled."""
  device = jax.devices()[0]
  parts = [device.platform, device.device_kind, platform.system(), platform.machine(), *_cpu()]
  return f"{device.platform}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"


def _cpu() -> list[str]:
  """Returns what the system says of its CPU; nothing where it says nothing."""
  with contextlib.suppress(OSError):
    lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
    fields = [line.partition(":") for line in lines.splitlines()]
    return [f"{name.strip()}={text.strip()}" for name, _, text in fields if name.strip() in CPU]

  return [platform.processor()]
