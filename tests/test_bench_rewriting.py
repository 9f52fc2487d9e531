"""What the benchmark does with texts: it rewrites drafts, learns from that, and scores pairs."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_models

from pit_jax.commands import bench
from pit_jax.exchange import families, hf
from pit_jax.models import pure
from pit_jax.rollout import scoring
from pit_jax.tools.bench import cases, generation, texts

compiles = pytest.mark.slow


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  return tiny_models.saved(tmp_path_factory.mktemp("model"))


@pytest.fixture
def source(tmp_path):
  """Ten pairs, nine of which have a response of 60 to 110 tokens, and one that is too long."""
  long = " ".join(["some words"] * 7)
  path = tmp_path / "some.jsonl"
  rows = [{"prompt": f"{n} ?", "chosen": f"{long} {n}", "rejected": "some"} for n in range(9)]
  rows.append({"prompt": "short ?", "chosen": "some words", "rejected": "some"})
  rows.append({"prompt": "long ?", "chosen": f"{long} " * 5, "rejected": "some"})
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return f"jsonl:{path}"


@pytest.fixture
def rewrites(directory, source):
  """Nine responses to rewrite, in batches of 1, 4 and all."""
  return list(texts.rewrites(str(directory), source, (1, 4, 64)))


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
      generation.rewriting(language, params, one, with_drafts=with_drafts)
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
  sizes = generation.Sizes(batches=(), rows=2, mixed=2)
  there = peers.peers(str(directory), sizes, rewrites=rewrites[:2])
  for one in rewrites[:2]:  # with prompt lookup, and without
    ours = generation.rewriting(language, params, one)
    assert there[one.name].amount == ours.amount
    for sampled, said in zip(ours.start()(), there[one.name].start()(), strict=True):
      responses = sampled.responses
      width = one.batches[0][0].tokens.shape[1]
      for tokens, mask, row in zip(responses.tokens, responses.mask, said.numpy()[:, width:]):
        np.testing.assert_array_equal(tokens[mask], row[: mask.sum()])


@compiles
def test_pairs_are_scored_and_what_is_too_long_is_left_out(directory, source):
  language = pure.language_model(families.read(directory))
  scalar = pure.scalar_model(language.config)
  params = hf.load(directory, language)
  settings, pairs = texts.pairs(str(directory), source)
  case = cases.scoring_pairs((language, scalar), params, settings, pairs)
  assert (case.amount, case.unit) == (10, "pairs")
  scores = pure.complete(scalar, jax.random.key(0), {"trunk": params["trunk"]})
  asked = jax.tree.map(jnp.asarray, (pairs.prompts, pairs.chosen, pairs.rejected))
  expected = scoring.sequence_scores(scalar, scores, *asked)
  for found, wanted in zip(case.start()(), expected, strict=True):
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
  ensemble = cases.scoring_pairs((language, scalar), params, settings, pairs, texts.MEMBERS)
  assert [each.shape for each in ensemble.start()()] == 2 * [(10, texts.MEMBERS)]


@compiles
@pytest.mark.parity
def test_the_peer_scores_both_texts_of_every_pair(directory, source):
  pytest.importorskip("torch", reason="torch is absent; install the extra `parity`")
  from pit_jax.tools.bench import peers

  _, pairs = texts.pairs(str(directory), source)
  sizes = generation.Sizes(batches=(), rows=2, mixed=2)
  case = peers.peers(str(directory), sizes, pairs=pairs)[texts.SCORED]
  scores = case.start()()
  assert case.amount == 10 and scores.shape == (20, 1) and len({*scores[:, 0].tolist()}) > 10


@compiles
def test_the_improver_learns_from_rewrites_of_drafts(directory, source, tmp_path):
  path = tmp_path / "bench.json"
  sizes = ["--batches=1", "--prompt=4", "--response=5", "--rows=2", "--mixed=3", "--repeats=1"]
  asked = [f"--model={directory}", f"--source={source}", "--cases=improver", f"--json={path}"]
  bench.main([*asked, *sizes])
  (row,) = json.loads(path.read_text())["cases"]
  assert row["name"] == "rl of the improver" and row["per_second"] > 0


def test_a_quick_look_has_small_sizes_unless_they_are_given():
  quick = bench._options(["--model=m", "--quick", "--rows=6"])
  assert (quick.batches, quick.repeats, quick.rows) == ((1, 8), 1, 6)
  assert bench._options(["--model=m", "--rows=6"]).repeats == 5
