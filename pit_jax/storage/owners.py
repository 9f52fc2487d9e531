"""The lock of a workdir: one process writes, and a second is refused while the first lives.

Whoever writes leaves a note in the workdir, or in its bucket, that says who it is: host, process,
since when, and a number that goes up every few seconds while it lives. A kill leaves the note, and
it does no harm: on the same host the process is looked for, and a note of another host whose number
stands still is taken over. So nothing depends on locks, which neither buckets nor every shared file
system have, nor on clocks that agree. Of several hosts of one run the first has the note.
"""

import contextlib
import dataclasses
import datetime
import json
import logging
import os
import pathlib
import re
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence

from pit_jax import hosts
from pit_jax.storage import buckets, mirrors, places

LOG = logging.getLogger(__name__)

BEAT = 10.0  # seconds between two signs of life
GRACE = 45.0  # without one, after which the owner is gone
SETTLE = 1.0  # before a note that was taken over, or lies in a bucket, is read back
# What a folder may hold that is to become a workdir, beside hidden files and logs: names as they
# are, since a user's own models.py or rows.jsonl begins like a run's folders.
OWN = re.compile(
  r"checkpoints|flight|judge|log\.txt|metrics|models|programs|references|report|rows|samples"
  r"|seed_\d+|sweep\.db.*|tensorboard|tokenizer|tokens|trials|verify|\..*|.*\.(err|log|out)",
  re.DOTALL,
)
SHOWN = 4  # names of other files in an error


@dataclasses.dataclass(frozen=True)
class Note:
  """Who writes into a workdir."""

  owner: str  # a name that no other process has
  host: str  # its machine
  pid: int  # its number there
  namespace: str  # in which this number means it; containers have their own
  started: str  # when the process began, as the host counts; tells it from a later one of its pid
  since: str  # when it took the workdir, in UTC
  beat: int = 0  # goes up while it lives

  def __str__(self) -> str:
    return f"process {self.pid} on {self.host}, since {self.since}"


def check_place(
  workdir: str | os.PathLike, beside: Sequence[str] = (), *, pools: bool = False
) -> None:
  """Raises a ValueError where a run would begin among files that are not its own.

  A folder need not be there, and of an address nothing is asked. What `beside` names may lie there.
  A command that `pools` has runs below its folder and one report there, so that it shares none with
  a run.
  """
  folder = pathlib.Path(workdir)
  if "://" in os.fspath(workdir) or not folder.is_dir():
    return
  is_run = (folder / "config.json").exists()
  if is_run and pools:
    raise ValueError(
      f"--workdir={workdir} holds a run, whose report that of several seeds would replace; give a "
      f"folder of their own, such as --workdir={workdir}_seeds"
    )
  if is_run:
    return
  if not pools and (
    seeds := sorted(path.parent.name for path in folder.glob("seed_*/config.json"))
  ):
    raise ValueError(
      f"--workdir={workdir} holds runs of several seeds, whose report that of one would replace; "
      f"give a folder of its own, or the run of one seed, such as --workdir={workdir}/{seeds[0]}"
    )
  names = sorted({path.name for path in folder.iterdir()}.difference(beside))
  if others := [name for name in names if not OWN.fullmatch(name)]:
    listed = ", ".join(others[:SHOWN]) + (", …" if len(others) > SHOWN else "")
    raise ValueError(
      f"--workdir={workdir} holds other files ({listed}), and a run writes many; give a folder of "
      "its own, such as --workdir=runs/mine"
    )


@contextlib.contextmanager
def held(folder: pathlib.Path) -> Iterator[None]:
  """Within the block this run alone writes into a workdir, a folder that `places.opened` gives.

  All of its hosts enter together.

  Raises:
    ValueError: another process does, and lives.
  """
  note = _own()
  absent = [path for path in (folder, *folder.parents) if not path.exists()]
  refusal = ""

  if hosts.is_first():
    try:
      _take(folder, note)
    except ValueError as error:
      refusal = str(error)

  # All hosts are refused together; one alone would leave the others waiting for it.
  if refusal := hosts.agree(refusal):
    raise ValueError(refusal)
  if not hosts.is_first():
    yield
    return

  ended = threading.Event()
  living = threading.Thread(target=_live, args=(folder, note, ended), daemon=True)
  living.start()

  try:
    yield
  finally:
    ended.set()
    living.join()
    _drop(folder, note)

    # Where nothing was written: what fails early leaves no folder behind, nor those above it.
    with contextlib.suppress(OSError):
      for path in absent:
        path.rmdir()


def _own() -> Note:
  since = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"
  identity = (str(uuid.uuid4()), socket.gethostname(), os.getpid())
  return Note(*identity, _namespace(), _started(os.getpid()), since)


def _take(folder: pathlib.Path, note: Note) -> None:
  """Leaves a note where there is none, or where its owner is gone; else raises a ValueError."""
  other = _read(folder)
  if other is not None and _lives(folder, other):
    raise ValueError(
      f"{places.address(folder)} is being written to by {other}; wait for its end or stop it, or "
      "give another --workdir"
    )

  is_first = _write(folder, note, is_new=other is None)
  if other is not None or places.mirror() is not None:
    time.sleep(SETTLE)  # others may have taken it in the same moment
  taken = _read(folder)
  if not is_first or taken is None or taken.owner != note.owner:
    raise ValueError(
      f"{places.address(folder)} was taken by {taken} in the same moment; give another --workdir"
    )


def _lives(folder: pathlib.Path, other: Note) -> bool:
  """Returns whether the owner of a note is alive, for which it may have to be watched a while."""
  if (other.host, other.namespace) == (socket.gethostname(), _namespace()):
    return _started(other.pid) == other.started and _is_running(other.pid)
  LOG.warning("waiting up to %d seconds to see whether %s is alive", GRACE, other)
  deadline = time.monotonic() + GRACE

  while time.monotonic() < deadline:
    time.sleep(min(BEAT / 4, GRACE / 4))
    if (now := _read(folder)) != other:
      return now is not None

  return False


def _live(folder: pathlib.Path, note: Note, ended: threading.Event) -> None:
  """Gives signs of life until the end; a process that lost its workdir meanwhile ends at once."""
  while not ended.wait(BEAT):
    note = dataclasses.replace(note, beat=note.beat + 1)
    try:
      other = _read(folder)
      if other is None or other.owner == note.owner:
        _write(folder, note)
        continue
    except OSError as error:  # the next sign may come through
      LOG.warning("no sign of life in %s: %s", places.address(folder), error)
      continue

    print(
      f"error: {places.address(folder)} was taken over by {other}, while this process gave no sign "
      "of life; it ends, and has written nothing since",
      file=sys.stderr,
      flush=True,
    )

    # In a thread, SystemExit would end the thread alone.
    os._exit(1)


def _drop(folder: pathlib.Path, note: Note) -> None:
  with contextlib.suppress(OSError):
    other = _read(folder)
    if other is None or other.owner != note.owner:
      return

    if here := places.mirror():
      buckets.files().rm_file(f"{here.address}/{mirrors.NOTE}")
    else:
      (folder / mirrors.NOTE).unlink()


def _read(folder: pathlib.Path) -> Note | None:
  """Returns the note of a workdir; None where there is none that is whole."""
  try:
    if here := places.mirror():
      with buckets.reaching(here.address):
        buckets.files().invalidate_cache()
        content = buckets.files().cat_file(f"{here.address}/{mirrors.NOTE}")
    else:
      content = (folder / mirrors.NOTE).read_bytes()

    return Note(**json.loads(content))
  except (FileNotFoundError, ValueError, TypeError):
    return None


def _write(folder: pathlib.Path, note: Note, is_new: bool = False) -> bool:
  """Writes a note; returns False where a new one came too late."""
  content = json.dumps(dataclasses.asdict(note)).encode()
  if here := places.mirror():
    with buckets.reaching(here.address):
      buckets.files().pipe_file(f"{here.address}/{mirrors.NOTE}", content)
    return True

  folder.mkdir(parents=True, exist_ok=True)
  path = folder / mirrors.NOTE
  temporary = path.with_name(f"{path.name}.{note.owner}.tmp")

  # Whole under a name of its own first, so that nobody reads half a note.
  temporary.write_bytes(content)
  try:
    # A link is a name that is given once, on shared file systems too.
    (os.link if is_new else os.replace)(temporary, path)
  except FileExistsError:
    return False
  except OSError:
    if not is_new:
      raise
    os.replace(temporary, path)  # a file system without links
  finally:
    temporary.unlink(missing_ok=True)

  return True


def _is_running(pid: int) -> bool:
  try:
    # Signal 0 is never sent: it only asks whether one could be.
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  except PermissionError:  # somebody else's
    pass
  return True


def _started(pid: int) -> str:
  """Returns when a process began, as its host counts; "" where it is gone or nobody says."""
  try:
    status = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
  except OSError:
    return ""

  # After the command's name, which may hold anything: the state, and starttime as the 20th.
  fields = status.rpartition(")")[2].split()
  return "" if fields[0] == "Z" else fields[19]


def _namespace() -> str:
  try:
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return f"{os.readlink('/proc/self/ns/pid')} {boot}"
  except OSError:
    return ""
