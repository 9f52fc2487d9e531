"""Git LFS pointers: the few lines of text that stand for a large file that was not fetched."""

import os
import pathlib
from typing import BinaryIO

BEGINNING = b"version https://git-lfs.github.com/spec/"


def check(*paths: str | os.PathLike) -> None:
  """Refuses files that are pointers; what does not exist, or is no file, is passed over.

  Raises:
    ValueError: a file holds no more than a pointer.
  """
  for path in filter(pathlib.Path.is_file, map(pathlib.Path, paths)):
    with path.open("rb") as file:
      is_pointer = file.read(len(BEGINNING)) == BEGINNING
    if is_pointer:
      todo = "fetch it with `git lfs pull`, or download the repository with `hf download`"
      raise ValueError(f"{path} is a Git LFS pointer and not the file itself; {todo}")


def opened(path: str | os.PathLike) -> BinaryIO:
  """Opens a file for reading bytes, and refuses as `check` does."""
  check(path)
  return open(path, "rb")
