"""What is measured of data: preferences in words become a set of tokens on disk."""

import pathlib
import tempfile

from pit_jax.data import encode, preferences, template, text
from pit_jax.tools.bench import timing

# At most so many tokens of each; more are cut.
PROMPT = 256
RESPONSE = 128


def case(directory: str, source: str) -> timing.Case:
  """Returns the case: a directory's tokenizer on a source that was read before.

  Every call opens the tokenizer anew, since it learns words as they come. Rows that cannot be used
  are left out.

  Raises:
    ValueError: the source cannot be used.
  """
  rows = preferences.load(source, on_bad_row="skip").rows

  def run():
    words = text.load_tokenizer(directory)
    settings = encode.Settings(words, template.Template(), PROMPT, RESPONSE)
    with tempfile.TemporaryDirectory() as folder:
      return encode.preferences(rows, settings, pathlib.Path(folder)).contents

  return timing.Case("tokenise", len(rows), lambda: run, unit="pairs")
