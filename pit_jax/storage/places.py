"""Runs that lie in object storage: `--workdir=gs://bucket/run`, for machines that come back empty.

Object storage keeps whole objects: nothing there is appended to, renamed or mapped into memory. So
a process works in a local folder, the mirror of the address, and every room but this one sees an
ordinary workdir:

  checkpoints/     lie in the bucket alone; Orbax writes them there and marks what is complete
                   with a last object, since nothing can be renamed (commit_success.txt)
  tokens/          lie in the mirror alone; they are made again from the data
  programs/        lie there too; they are compiled again
  everything else  is written in the mirror and copied into the bucket, each file as one object, in
                   the order in which the files were written

Files are copied before a checkpoint is written, so that all a checkpoint was made from is there
when it is complete; and whenever a file is written that a run writes once, and at the end. A run
begins by copying the other way. Of a file that both have, the bucket's is taken, unless it is the
one that this mirror put or took last: a machine that kept its disk goes on with what it has.

The mirror of host 0 is TMPDIR/pit_jax-<user>/<hash of the address>-0. It may be removed while no
process works on the run. Every host has a mirror; the first one writes into the bucket.
"""

import contextlib
import logging
import os
import pathlib
import threading
from collections.abc import Iterator, Sequence

from pit_jax import hosts
from pit_jax.storage import buckets, mirrors

LOG = logging.getLogger(__name__)

_MIRROR: mirrors.Mirror | None = None  # of this process, threads included
_PUSHING = threading.Lock()


def mirror() -> mirrors.Mirror | None:
  """Returns the mirror in which the block of `opened` works; None where the workdir is local."""
  return _MIRROR


@contextlib.contextmanager
def opened(workdir: str | os.PathLike, only: Sequence[str] = ()) -> Iterator[pathlib.Path]:
  """Gives the folder in which to work on a run, and copies what was written there in the end.

  Args:
    workdir: a local folder, which is given as it is; or gs://BUCKET/FOLDER.
    only: the parts that are wanted; () is all that training needs, which is all but `models`.

  Raises:
    ValueError: the address is another one, or the extra `gcs` is not installed.
    UnreachableError: the bucket does not answer.
  """
  global _MIRROR
  workdir = os.fspath(workdir)
  if "://" not in workdir:
    yield pathlib.Path(workdir)
    return

  here = mirrors.Mirror(_address(workdir), mirrors.place(_address(workdir)))
  with buckets.reaching(here.address):
    for part in only or ("",):
      here.pull(part, skip=() if only else (mirrors.MODELS,))

  _MIRROR = here
  try:
    yield here.folder
  except OSError:  # the bucket or the disk is at fault: no copy would end well
    raise
  except BaseException:
    try:
      push()
    except buckets.UnreachableError as error:
      LOG.warning("%s", error)

    raise
  else:
    push()
  finally:
    _MIRROR = None


def local(name: str, folder: str | os.PathLike) -> pathlib.Path:
  """Returns the folder that a setting of this name names; raises a ValueError for an address."""
  if "://" in os.fspath(folder):
    raise ValueError(
      f"{name}={folder}: of all folders the --workdir of `pit train`, evaluate, improve "
      "and convert.py alone may be an address; give a local folder"
    )

  return pathlib.Path(folder)


def push() -> None:
  """Copies into the bucket what this host wrote; of several hosts the first does.

  Raises:
    UnreachableError: the bucket does not answer.
  """
  if _MIRROR is not None and hosts.is_first():
    # One thread at a time: each wants to know what the others copied.
    with _PUSHING, buckets.reaching(_MIRROR.address):
      _MIRROR.push()


def share(path: pathlib.Path) -> None:
  """Returns when every host can read a file or folder below the workdir that the first one wrote.

  Raises:
    UnreachableError: the bucket does not answer.
  """
  push()
  # Between the two copies: what the others take has to be there.
  hosts.wait(path.name)
  is_mirrored = _MIRROR is not None and path.is_relative_to(_MIRROR.folder)

  if is_mirrored and not hosts.is_first():
    with buckets.reaching(_MIRROR.address):
      _MIRROR.pull(path.relative_to(_MIRROR.folder).as_posix())


def address(path: str | os.PathLike) -> str:
  """Returns where a path below the workdir is found when this machine is gone."""
  if _MIRROR is None or not pathlib.Path(path).is_relative_to(_MIRROR.folder):
    return os.fspath(path)
  below = pathlib.Path(path).relative_to(_MIRROR.folder).as_posix()
  return _MIRROR.address if below == "." else f"{_MIRROR.address}/{below}"


def _address(workdir: str) -> str:
  """Returns an address in the one form by which its mirror is named."""
  bucket, _, below = workdir.removeprefix(buckets.SCHEME).partition("/")
  parts = [part for part in below.split("/") if part]
  if not workdir.startswith(buckets.SCHEME) or not bucket or not parts or {".", ".."} & set(parts):
    raise ValueError(
      f"workdir {workdir!r} is not allowed; give a local folder, or {buckets.SCHEME}BUCKET/FOLDER"
    )

  return f"{buckets.SCHEME}{bucket}/{'/'.join(parts)}"
