"""What all commands share: how they read their options, how they end, and what terminals can show.

A mistake of whoever types a command ends it in one line on the standard error, with status 1:
`error: ` and what is wrong, what is allowed, what to change. A traceback is left to mistakes of
this library. What a terminal cannot show is written in letters that it can.
"""

import argparse
import codecs
import contextlib
import errno
import functools
import os
import pathlib
import sys
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

# Signs in what commands print, for terminals with other alphabets.
PLAIN = {
  "Δ": "Delta", "β": "beta", "κ": "kappa", "π": "pi", "×": "x", "·": ".", "…": "...", "−": "-",
  "–": "-", "—": "-", "→": "->", "≥": ">=", "≤": "<=", "≠": "!=", "≈": "~", "±": "+-", "√": "sqrt",
  "∞": "inf", "“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "─": "-", "━": "-", "│": "|",
  "█": "#", "▁": "_",
}  # fmt: skip
HINTS = {
  errno.ENOSPC: "make room on that disk, and start the same command again",
  errno.EDQUOT: "make room in your quota, and start the same command again",
  errno.EROFS: "name a place that can be written to",
  errno.EACCES: "name a place that you may read and write",
  errno.EPERM: "name a place that you may read and write",
  errno.ENOENT: "see that it is spelt as it is meant",
  errno.ENOTDIR: "a part of the path is a file; name a folder",
  errno.EISDIR: "name a file",
}
# Packages whose errors say that a server is out of reach, or refuses.
CLIENTS = ("aiohttp", "httpx", "huggingface_hub", "requests", "urllib3")
STOPPED = 130  # what a shell returns of a command that Ctrl-C ended
INTERRUPTED = "interrupted; of pit train, evaluate, sweep and paper the same command goes on"
BACKEND = "Unable to initialize backend"  # JAX, of JAX_PLATFORMS


class Parser(argparse.ArgumentParser):
  """Reads the options of a command; those that are wrong end it in one line."""

  def __init__(self, description: str | None = None, **options: Any):
    options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
    super().__init__(description=description, allow_abbrev=False, **options)

  def error(self, message: str) -> NoReturn:
    """Ends the command with what is wrong, and where the options are explained."""
    raise SystemExit(f"error: {message}; {self.prog} --help explains the options")


def at_least(lowest: float | int) -> Callable[[str], Any]:
  """Returns a reader of numbers from `lowest` on; whole ones where that is one."""
  kind = int if isinstance(lowest, int) else float
  what = "a whole number" if kind is int else "a number"

  def number(text: str) -> Any:
    with contextlib.suppress(ValueError):
      if (value := kind(text)) >= lowest:
        return value

    raise argparse.ArgumentTypeError(f"{text!r} is not allowed; use {what}, {lowest} or more")

  return number


def fraction(text: str) -> float:
  """Returns a number from 0 to below 1."""
  with contextlib.suppress(ValueError):
    if 0 <= (value := float(text)) < 1:
      return value

  raise argparse.ArgumentTypeError(f"{text!r} is not allowed; use at least 0 and below 1")


def words(text: str) -> list[str]:
  """Returns words that are separated by commas, each once."""
  found = [word.strip() for word in text.split(",") if word.strip()]
  if len({*found}) < len(found):
    raise argparse.ArgumentTypeError(f"{text!r} has a word twice; give each once")
  return found


def counts(text: str, lowest: int = 1) -> tuple[int, ...]:
  """Returns whole numbers from `lowest` on, separated by commas."""
  return tuple(map(at_least(lowest), text.split(",")))


def sizes(text: str) -> tuple[int, ...]:
  """Returns the sizes of a mesh: whole numbers, of which one may be -1."""
  return counts(text, lowest=-1)


def command(main: Callable[..., Any]) -> Callable[..., Any]:
  """Makes a function the entry of a command: known errors end it in one line, as SystemExit.

  It is given the arguments, those of the process unless the caller has others.
  """

  @functools.wraps(main)
  def run(arguments: Sequence[str] | None = None) -> Any:
    reach_terminals()
    try:
      return main(list(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt:  # of whoever typed it; no line of a traceback would help
      print(f"\n{INTERRUPTED}", file=sys.stderr, flush=True)
      raise SystemExit(STOPPED) from None
    except BrokenPipeError:  # whoever read it, such as `head`, has read enough
      # Python flushes the standard output as it exits, and would fail on the pipe once more.
      os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
      raise SystemExit(1) from None
    except Exception as error:
      if (message := explained(error)) is None:
        raise

      if getattr(error, "is_hanging", False):  # a plain exit would wait for its thread
        print(f"error: {message}", file=sys.stderr, flush=True)
        os._exit(1)

      raise SystemExit(f"error: {message}") from error

  return run


def again(name: str, arguments: Sequence[str]) -> list[str]:
  """Returns the command line that runs `pit NAME` in a process of its own, with this library."""
  # By its path: the library may lie in a checkout, and be installed nowhere.
  root = str(pathlib.Path(__file__).resolve().parents[1])
  code = (
    f"import sys; sys.path.insert(0, {root!r}); from pit_jax import __main__ as door; door.main()"
  )
  return [sys.executable, "-c", code, name, *arguments]


def explained(error: Exception) -> str | None:
  """Returns what to say of an error that a user can mend; None of one of this library."""
  if type(error).__module__.split(".")[0] in CLIENTS:
    line = " ".join(str(error).split())[:300]
    problem = f"a server cannot be reached, or refuses ({type(error).__name__}: {line})"
    todo = "see that this machine is on the network and may read there"
    return f"{problem}; {todo}, or name a local folder or file"

  # The system's own errors alone: a subclass of a library says in its text what is wrong.
  if isinstance(error, OSError) and error.strerror and type(error).__module__ == "builtins":
    place = f"{os.fsdecode(error.filename)}: " if error.filename is not None else ""
    hint = HINTS.get(error.errno)
    return f"{place}{error.strerror}" + (f"; {hint}" if hint else "")

  if isinstance(error, ValueError | OSError):
    return str(error)
  if isinstance(error, RuntimeError) and str(error).startswith(BACKEND):
    line = str(error).splitlines()[0]
    return f"{line}; set JAX_PLATFORMS to a platform of this machine, or to cpu"

  return None


def quiet() -> None:
  """Lets libraries that log through absl tell warnings alone; Orbax says a page per stage."""
  from absl import flags, logging

  flags.FLAGS.mark_as_parsed()  # else it warns that it cannot know its own options
  logging.use_absl_handler()
  logging.set_verbosity(logging.WARNING)
  # Orbax warns of every checkpoint without a score, which are those between two validations.
  logging.get_absl_handler().addFilter(lambda record: "tracked_metric" not in record.getMessage())


def reach_terminals() -> None:
  """Lets every word reach the terminal: what its alphabet lacks is written in plain letters."""
  for stream in (sys.stdout, sys.stderr):
    # Streams that a test or a notebook puts in their place need not be files.
    if hasattr(stream, "reconfigure"):
      stream.reconfigure(errors=PLAINLY)

  if hasattr(sys.stdin, "reconfigure"):
    sys.stdin.reconfigure(errors="replace")


def _plainly(error: UnicodeError) -> tuple[str, int]:
  """Replaces what an alphabet lacks, as an error handler of `codecs`."""
  if not isinstance(error, UnicodeEncodeError):
    raise error
  signs = error.object[error.start : error.end]
  return "".join(map(_plain, signs)), error.end


def _plain(sign: str) -> str:
  """Returns a sign in ASCII: in known words, without its accents, or as its number."""
  if sign in PLAIN:
    return PLAIN[sign]
  # NFKD parts a letter from its accents, which ASCII then leaves out.
  letters = unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode()
  return letters or sign.encode("ascii", "backslashreplace").decode()


PLAINLY = "pit_jax.plainly"
codecs.register_error(PLAINLY, _plainly)
