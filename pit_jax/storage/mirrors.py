"""A local folder in which a process works on a run that lies in a bucket."""

import dataclasses
import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import jax

from pit_jax.storage import buckets

MARK = ".mirror.json"  # what was put or taken last, by name
NOTE = ".owner.json"  # who writes into a workdir; owners.py puts it into the bucket itself
CHECKPOINTS = "checkpoints"
# Made again where they are missing, and of no use to other machines.
LOCAL = ("tokens", "programs")
MODELS = "models"
ONE_PIECE = 64 << 20  # bytes of a file that is read whole, as it may be written to meanwhile
UNFINISHED = (".tmp", ".partial", ".old")  # of files and folders that are about to be renamed


@dataclasses.dataclass(frozen=True)
class Mirror:
  """A local folder in which a process works on a run that lies in a bucket."""

  address: str  # of the run, gs://bucket/run
  folder: pathlib.Path

  def pull(self, below: str = "", skip: Sequence[str] = ()) -> None:
    """Copies from the bucket what others changed in a file or folder, "" for all.

    Folders of the workdir may be skipped.
    """
    recorded = self._known()
    remote = self._there(below)
    for name, about in remote.items():
      # A generation is the bucket's own count of an object's versions: no clocks are compared.
      is_same = recorded.get(name, {}).get("generation") == about["generation"]
      if _is_kept(name, skip) and not (is_same and (self.folder / name).exists()):
        self._take(name, about)
        recorded[name] = self._described(name, about["generation"])

    inside = [name for name in recorded if name.startswith(below) and _is_kept(name, skip)]
    # Others removed these since they were put or taken here.
    for name in set(inside) - remote.keys():
      (self.folder / name).unlink(missing_ok=True)
      del recorded[name]

    self._remember(recorded)

  def push(self) -> None:
    """Copies into the bucket what was written here since the last time, the oldest first.

    What is removed here stays there: whoever tidies up temporary folders may not undo a run.
    """
    recorded = self._known()
    for name in self._names():
      now = self._described(name, recorded.get(name, {}).get("generation"))
      if now != recorded.get(name):
        now["generation"] = self._put(name, now["size"])
        recorded[name] = now

    self._remember(recorded)

  def _names(self) -> list[str]:
    """Returns the files that belong into the bucket, in the order of their last writing."""
    paths = [path for path in self.folder.rglob("*") if path.is_file() and path.name != MARK]
    paths.sort(key=lambda path: path.stat().st_mtime_ns)
    names = [path.relative_to(self.folder).as_posix() for path in paths]
    return [name for name in names if _is_kept(name, ())]

  def _there(self, below: str) -> dict[str, dict[str, Any]]:
    # The client keeps listings, and other machines write into the bucket too.
    buckets.files().invalidate_cache()
    root = self.address.removeprefix(buckets.SCHEME)
    objects = buckets.files().find(f"{root}/{below}".rstrip("/"), detail=True)
    return {path.removeprefix(f"{root}/"): about for path, about in objects.items()}

  def _take(self, name: str, about: dict[str, Any]) -> None:
    path = self.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    buckets.files().get_file(f"{self.address}/{name}", str(temporary))
    written = about["mtime"].timestamp()  # the order of files tells the order of stages
    os.utime(temporary, (written, written))
    os.replace(temporary, path)

  def _put(self, name: str, size: int) -> str:
    """Copies a file of which so many bytes are wanted, and returns the object's generation."""
    path = self.folder / name
    target = f"{self.address}/{name}"
    if size <= ONE_PIECE:
      with path.open("rb") as file:
        buckets.files().pipe_file(target, file.read(size))
    else:
      buckets.files().put_file(str(path), target)

    return buckets.files().info(target)["generation"]

  def _described(self, name: str, generation: str | None) -> dict[str, Any]:
    status = (self.folder / name).stat()
    return {"generation": generation, "size": status.st_size, "written": status.st_mtime_ns}

  def _known(self) -> dict[str, dict[str, Any]]:
    path = self.folder / MARK
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

  def _remember(self, known: dict[str, dict[str, Any]]) -> None:
    temporary = self.folder / f"{MARK}.tmp"
    temporary.write_text(json.dumps(known), encoding="utf-8")
    os.replace(temporary, self.folder / MARK)


def _is_kept(name: str, skip: Sequence[str]) -> bool:
  """Returns whether a file is one that mirror and bucket share."""
  parts = pathlib.PurePosixPath(name).parts
  is_whole = not any(part.endswith(UNFINISHED) for part in parts)
  return is_whole and parts[0] not in (*LOCAL, NOTE, *skip) and CHECKPOINTS not in parts


def place(address: str) -> pathlib.Path:
  """Returns this host's mirror of an address, which is made if there is none."""
  name = f"{hashlib.sha256(address.encode()).hexdigest()[:16]}-{jax.process_index()}"
  folder = pathlib.Path(tempfile.gettempdir()) / f"pit_jax-{os.getuid()}" / name
  # Everybody may write into the temporary folder: a guessed name is refused unless it is ours.
  folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
  if folder.parent.stat().st_uid != os.getuid():
    raise ValueError(f"{folder.parent} belongs to somebody else; set TMPDIR to another folder")
  folder.mkdir(exist_ok=True)

  return folder
