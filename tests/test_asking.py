"""Files of rows of one writer: asked for together, once one is wanted, and no more of them."""

from unittest import mock

import jax

from pit_jax.data import prompt_formats
from pit_jax.feedback import writers
from pit_jax.run import context as contexts
from pit_jax.run import made_rows
from pit_jax.stages import asking

POLICY = prompt_formats.Format("policy", plain="{prompt}")


def test_all_that_is_not_made_is_asked_in_one_pass_and_only_if_it_is_wanted(tmp_path):
  context = mock.Mock(spec=contexts.Context, workdir=tmp_path)
  passes = []

  def together(requests):
    passes.append([one.asked[0].prompt for one in requests])
    return [writers.Written([[f"to {one.asked[0].prompt}"]]) for one in requests]

  writer = writers.Writer("teacher", mock.Mock(), together=together)
  requests = {name: writers.Request(POLICY.conversations([name]), jax.random.key(0), 1.0)
              for name in ("a", "b", "c")}  # fmt: skip
  made_rows.once(context, "rows/b", lambda: [{"text": "there"}])
  (written,) = asking.together(context, [(writer, requests)])
  assert not passes
  assert [written(name).texts for name in "ac"] == [[["to a"]], [["to c"]]]
  assert passes == [["a", "c"]]
