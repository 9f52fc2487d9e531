"""Buckets of Google Cloud Storage: their client, their errors, and copies within them."""

import contextlib
import importlib
import os
import re
import shutil
from collections.abc import Iterator
from typing import Any

SCHEME = "gs://"
# What clients say of a server that does not answer, or not to them; damaged data has other errors.
OUT_OF_REACH = re.compile(
  "UNAVAILABLE|DEADLINE_EXCEEDED|PERMISSION_DENIED|UNAUTHENTICATED|RESOURCE_EXHAUSTED"
)


class UnreachableError(OSError):
  """A bucket does not answer, or refuses; what it holds may be as good as ever."""


def files() -> Any:
  """Returns Orbax's client of Google Cloud Storage; a ValueError without the extra `gcs`."""
  try:
    for name in ("gcsfs", "google.cloud.storage"):
      importlib.import_module(name)
  except ImportError as error:
    raise ValueError(
      f"addresses in {SCHEME} need gcsfs and google-cloud-storage; pip install 'pit_jax[gcs]'"
    ) from error

  import fsspec

  return fsspec.filesystem("gcs", finalize_on_close=True)


@contextlib.contextmanager
def reaching(place: str) -> Iterator[None]:
  """Within the block, errors of a bucket's client become an UnreachableError: what to look at.

  All others stay as they are, and all of local places.
  """
  try:
    yield
  except Exception as error:
    if not place.startswith(SCHEME) or not is_out_of_reach(error):
      raise
    line = (str(error).splitlines() or [""])[0]
    raise UnreachableError(
      f"{place} cannot be reached ({type(error).__name__}: {line[:250]}); see that the bucket is "
      "there and that this machine may read and write it, then start the same command again"
    ) from error


def is_out_of_reach(error: BaseException | None) -> bool:
  """Returns whether an error, or what caused it, says that a bucket does not answer or refuses."""
  seen = []
  while error is not None and error not in seen:
    # Chains of causes may be circles.
    seen.append(error)
    error = error.__cause__ or error.__context__

  modules = ("gcsfs", "aiohttp", "requests", "google")
  return any(
    type(one).__module__.split(".")[0] in modules
    or isinstance(one, TimeoutError | ConnectionError)
    or str(one).startswith("Forbidden")  # gcsfs' plain OSError
    or OUT_OF_REACH.search(str(one))
    for one in seen
  )


def copy(source: str, target: str) -> None:
  """Gives a folder of files that never change a second place, on disk or within a bucket.

  Raises:
    UnreachableError: the bucket does not answer.
  """
  if not source.startswith(SCHEME):
    shutil.copytree(source, target, copy_function=_link)
    return

  with reaching(target):
    # What a kill left there half is removed first.
    if files().exists(target):
      files().rm(target, recursive=True)
    for path in files().find(source):
      files().cp_file(path, f"{target}/{path.removeprefix(source.removeprefix(SCHEME) + '/')}")


def _link(source: str, target: str) -> None:
  """Gives a file a second name; or copies it."""
  try:
    os.link(source, target)
  except OSError:  # a file system without such names
    shutil.copy2(source, target)
