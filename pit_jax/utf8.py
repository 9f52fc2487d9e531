"""Texts that are no UTF-8, told by the byte and by what to do."""

REMEDY = "save the file as UTF-8, from Latin-1 with `iconv -f LATIN1 -t UTF-8`"
ESCAPED = range(0xDC80, 0xDD00)  # what the error handler `surrogateescape` makes of bytes from 0x80


def told(error: UnicodeError) -> str:
  """Returns what is wrong with bytes that cannot be decoded, or with a text that has such bytes.

  Args:
    error: of decoding bytes; or of encoding a text, whose bytes that could not be decoded are
      escaped as by `surrogateescape`, or which has half of a surrogate pair, as JSON can spell it.
  """
  if isinstance(error, UnicodeDecodeError):
    return _byte(error.object[error.start], error.start)
  if isinstance(error, UnicodeEncodeError) and (sign := ord(error.object[error.start])) in ESCAPED:
    return _byte(sign - ESCAPED.start + 0x80, error.start)
  return str(error)


def _byte(byte: int, place: int) -> str:
  return f"byte 0x{byte:02x} at position {place} is no UTF-8; {REMEDY}"
