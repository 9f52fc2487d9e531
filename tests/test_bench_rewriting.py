"""What the benchmark rewrites, from drafts and without, ours and the peer's."""

import json

import numpy as np
import pytest
import tiny

from pit_jax.data import text
from pit_jax.exchange import families, hf
from pit_jax.models import pure
from pit_jax.tools.bench import cases, texts

compiles = pytest.mark.slow


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  directory = tmp_path_factory.mktemp("model")
  model = tiny.language(vocabulary=300)
  hf.save(directory, model, tiny.parameters(model, seed=0), eos_token_id=1, pad_token_id=0)
  text.train_tokenizer(["some words"], 258, directory)
  return directory


@pytest.fixture
def rewrites(directory, tmp_path):
  """Nine responses of 60 to 110 tokens to rewrite, in batches of 1, 4 and all."""
  long = " ".join(["some words"] * 7)
  source = tmp_path / "some.jsonl"
  rows = [{"prompt": f"{n} ?", "chosen": f"{long} {n}", "rejected": "some"} for n in range(9)]
  rows.append({"prompt": "short ?", "chosen": "some words", "rejected": "some"})
  source.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return list(texts.rewrites(str(directory), f"jsonl:{source}", (1, 4, 64)))


@compiles
def test_responses_are_rewritten_token_by_token_and_from_their_drafts(directory, rewrites):
  model = families.read(directory)
  params = hf.load(directory, language := pure.language_model(model))
  assert [one.name for one in rewrites] == [
    "rewrite, batch 1",
    "rewrite, batch 4",
    "rewrite, batch 9",
  ]
  assert [len(one.batches) for one in rewrites] == [8, 2, 1]
  for one in rewrites:
    plain, drafted = (
      cases.rewriting(language, params, one, with_drafts=with_drafts)
      for with_drafts in (False, True)
    )
    tokens = sum(int(drafts.mask.sum()) for _, drafts in one.batches)
    assert plain.amount == drafted.amount == tokens
    for one, two in zip(plain.start()(), drafted.start()(), strict=True):
      np.testing.assert_array_equal(one.responses.tokens, two.responses.tokens)
      np.testing.assert_array_equal(two.responses.mask.sum(), one.responses.mask.sum())
      assert two.passes.sum() <= one.passes.sum()


@compiles
@pytest.mark.parity
def test_the_peer_rewrites_to_the_same_tokens(directory, rewrites):
  pytest.importorskip("torch", reason="torch is absent; install the extra `parity`")
  from pit_jax.tools.bench import peers

  language = pure.language_model(families.read(directory))
  params = hf.load(directory, language)
  sizes = cases.Sizes(batches=(), rows=2, mixed=2)
  there = peers.peers(str(directory), sizes, rewrites=rewrites[:2])
  for one in rewrites[:2]:  # with prompt lookup, and without
    ours = cases.rewriting(language, params, one)
    assert there[one.name].amount == ours.amount
    for sampled, said in zip(ours.start()(), there[one.name].start()(), strict=True):
      responses = sampled.responses
      width = one.batches[0][0].tokens.shape[1]
      for tokens, mask, row in zip(responses.tokens, responses.mask, said.numpy()[:, width:]):
        np.testing.assert_array_equal(tokens[mask], row[: mask.sum()])
