"""What the process frees: kept for what it asks for next, or given to the system.

XLA asks for the temporaries of a program at every call. Those of more than 32 MiB glibc maps anew
each time, and the system clears every page of them again: a seventh of the processor's time of a
small run on CPUs. Other allocators are left as they are.
"""

import contextlib
import ctypes
import os

# Of glibc's malloc.h: parameters of mallopt.
TRIM_THRESHOLD = -1
MMAP_THRESHOLD = -3
MOST = 2**31 - 1  # an int
# What earlier versions take at most, and what the threshold rises to by itself.
EARLIER = 32 * 2**20
SET_BY = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")  # environment


def keep() -> None:
  """Has the whole process keep what it frees from now on; it is then as large as it ever was.

  A thread keeps what fits, beside all else that it holds, into a heap of 64 MiB; for what is larger
  it is as before. One heap for all would have no such limit, and threads that tokenise would wait
  for each other. Where the environment says how glibc allocates, it stays so.
  """
  if any(name in os.environ for name in SET_BY):
    return
  with contextlib.suppress(OSError, AttributeError):
    set_option = _glibc().mallopt
    # Neither threshold rises by itself after any of them was set.
    if set_option(MMAP_THRESHOLD, MOST) or set_option(MMAP_THRESHOLD, EARLIER):
      set_option(TRIM_THRESHOLD, MOST)


def give_back() -> None:
  """Gives the system what the process has freed."""
  with contextlib.suppress(OSError, AttributeError):
    _glibc().malloc_trim(0)


def _glibc() -> ctypes.CDLL:
  return ctypes.CDLL("libc.so.6")
