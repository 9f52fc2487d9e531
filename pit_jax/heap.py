"""What the process frees: kept for what it asks for next, or given to the system.

XLA asks for the temporaries of a program at every call. Those of more than 32 MiB glibc maps anew
each time, and the system clears every page of them again: a seventh of the processor's time of a
small run on CPUs. Other allocators are left as they are.
"""

import contextlib
import ctypes

# Of glibc's malloc.h: parameters of mallopt.
TRIM_THRESHOLD = -1
MMAP_THRESHOLD = -3
MOST = 2**31 - 1  # an int


def keep() -> None:
  """Has the process keep what it frees, which then is as large as it was at its largest.

  Threads have heaps of 64 MiB each: what is larger is mapped as before. One heap for all would have
  no such limit, and threads that tokenise would wait for each other.
  """
  with contextlib.suppress(OSError, AttributeError):
    set_option = _glibc().mallopt
    set_option(MMAP_THRESHOLD, MOST)
    set_option(TRIM_THRESHOLD, MOST)


def give_back() -> None:
  """Gives the system what the process has freed."""
  with contextlib.suppress(OSError, AttributeError):
    _glibc().malloc_trim(0)


def _glibc() -> ctypes.CDLL:
  return ctypes.CDLL("libc.so.6")
