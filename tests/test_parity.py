"""Every family against transformers with the same random weights, in float32 on CPU.

transformers builds and saves the model, we read its directory: so the file's switches, the names of
the tensors and the mathematics are all its own.
"""

import functools
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from pit_jax.exchange import families, hf
from pit_jax.models import architecture, attention, pure

torch = pytest.importorskip("torch", reason="torch is absent; install the extra `parity`")
pytestmark = pytest.mark.parity

LENGTHS = [12, 5, 1, 8]
LENGTH = 12
STEEP = {"theta": 500.0, "original_length": 8}
GEMMA = {
  "activation": "gelu_tanh",
  "post_norms": True,
  "norm_offset": 1.0,
  "embedding_scale": 4.0,
  "attention_scale": 7**-0.5,
  "window": 3,
}
CASES = {
  "llama": {},
  "llama, untied, one kv head": {"kv_heads": 1, "tied": False},
  "llama, three heads, wide": {"width": 12, "heads": 3, "kv_heads": 3, "head_width": 10},
  "llama, linear": {"rope": architecture.Rope(500.0, "linear", 3.0)},
  "llama, llama3": {"rope": architecture.Rope(**STEEP, scaling="llama3", factor=4.0)},
  "llama, yarn": {"rope": architecture.Rope(**STEEP, scaling="yarn", factor=4.0, fast=32.0)},
  "llama, biases": {"qkv_bias": True, "output_bias": True},
  "mistral": {"window": 3, "tied": False},
  "llama, six heads, two of keys": {"width": 12, "heads": 6, "kv_heads": 2},
  "qwen2": {"qkv_bias": True, "width": 12, "heads": 3, "kv_heads": 1},
  "qwen2, window": {
    "qkv_bias": True,
    "layers": 3,
    "window": 4,
    "windowed": (False, False, True),
  },
  "qwen3": {"qk_norm": True, "head_width": 6, "tied": False},
  "gemma2": {**GEMMA, "attention_cap": 5.0, "logit_cap": 3.0, "windowed": (True, False)},
  "gemma3_text": {
    **GEMMA,
    "qk_norm": True,
    "layers": 4,
    "windowed": (True, True, False, True),
    "rope": architecture.Rope(2_000.0, "linear", 8.0),
    "local_rope": architecture.Rope(300.0),
  },
}


def reference(config: architecture.ModelConfig, seed: int, scalar: bool = False):
  """Returns transformers' model of a configuration with random weights, norms included."""
  import transformers

  more = {"num_labels": 1, "pad_token_id": 0} if scalar else {"pad_token_id": None}
  described = families.write(config, **more)
  torch.manual_seed(seed)
  kind = getattr(transformers, families.class_name(described, is_scalar=scalar))
  model = kind._from_config(described, attn_implementation="eager").eval()
  with torch.no_grad():
    for name, weight in model.named_parameters():
      mean = 1.0 if "norm" in name and not config.norm_offset else 0.0
      weight.copy_(mean + 0.3 * torch.randn(weight.shape))
  return model


@functools.cache
def read(case: str, scalar: bool = False):
  """Returns (transformers' model, ours, our parameters) of a case."""
  theirs = reference(tiny.config(**CASES[case]), seed=len(case), scalar=scalar)
  with tempfile.TemporaryDirectory() as directory:
    theirs.save_pretrained(directory)
    config = families.read(directory)
    model = (pure.scalar_model if scalar else pure.language_model)(config)
    return theirs, model, hf.load(directory, model)


def expected_logits(theirs, tokens, mask):
  with torch.no_grad():
    return theirs(
      input_ids=torch.tensor(tokens, dtype=torch.long),
      attention_mask=torch.tensor(mask, dtype=torch.long),
      position_ids=torch.tensor(np.maximum(mask.cumsum(axis=1) - 1, 0)),
    ).logits.numpy()


@pytest.mark.parametrize("side", [tiny.left, tiny.right], ids=["left", "right"])
@pytest.mark.parametrize("case", CASES)
def test_logits_equal_those_of_the_family(case, side):
  theirs, model, params = read(case)
  assert type(theirs).__name__.lower().startswith(case.split(",")[0].removesuffix("_text"))
  tokens, mask = tiny.ids(1, len(LENGTHS), LENGTH), side(LENGTHS, LENGTH)
  expected = expected_logits(theirs, tokens, mask)
  actual = np.asarray(jax.jit(model.apply)(params, jnp.array(tokens), jnp.array(mask)))
  assert expected[mask].std() > 0.5  # or the comparison says little
  assert np.abs(actual[mask] - expected[mask]).max() < 2e-4


@pytest.mark.parametrize("case", CASES)
def test_cached_logits_equal_those_of_the_family(case):
  theirs, model, params = read(case)
  tokens, mask = tiny.ids(2, len(LENGTHS), LENGTH), tiny.left(LENGTHS, LENGTH)
  expected = expected_logits(theirs, tokens, mask)
  extend = jax.jit(functools.partial(model.apply, method="extend"))
  cache = attention.empty_cache(model.config, len(LENGTHS), LENGTH)
  start = LENGTH - 4
  for slots in (slice(0, start), *(slice(t, t + 1) for t in range(start, LENGTH))):
    logits, cache = extend(params, tokens[:, slots], mask[:, slots], cache, slots.start)
    here = mask[:, slots.stop - 1]
    assert np.abs(logits - expected[:, slots.stop - 1])[here].max() < 2e-4


@pytest.mark.parametrize("side", [tiny.left, tiny.right], ids=["left", "right"])
@pytest.mark.parametrize("case", ["llama", "qwen2", "gemma3_text"])
def test_scores_equal_those_of_the_familys_classifier(case, side):
  theirs, model, params = read(case, scalar=True)
  mask = side(LENGTHS, LENGTH)
  tokens = np.where(mask, np.maximum(tiny.ids(3, len(LENGTHS), LENGTH), 1), 0)  # 0 is padding
  expected = expected_logits(theirs, tokens, mask)[:, 0]
  scores = np.asarray(jax.jit(model.apply)(params, jnp.array(tokens), jnp.array(mask)))
  ends = np.where(mask, np.arange(LENGTH), -1).max(axis=1)
  assert expected.std() > 0.1
  assert np.abs(scores[np.arange(len(LENGTHS)), ends] - expected).max() < 2e-4


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("case", ["llama, untied, one kv head", "qwen2", "gemma3_text"])
def test_import_and_export_keep_every_bit(tmp_path, case, dtype):
  import transformers

  theirs = reference(tiny.config(**CASES[case]), seed=4).to(getattr(torch, dtype))
  theirs.save_pretrained(tmp_path / "in")
  model = pure.language_model(families.read(tmp_path / "in"))
  params = hf.load(tmp_path / "in", model)
  hf.save(tmp_path / "out", model, params, dtype=dtype, shard_bytes=2_000)
  assert len(list((tmp_path / "out").glob("*.safetensors"))) > 2
  back = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
  assert type(back) is type(theirs)
  state = back.state_dict()
  assert state.keys() == theirs.state_dict().keys()
  for name, tensor in theirs.state_dict().items():
    assert state[name].dtype == tensor.dtype
    assert torch.equal(state[name], tensor), name


def test_a_classifier_survives_the_round_trip(tmp_path):
  import transformers

  _, model, params = read("llama", scalar=True)
  hf.save(tmp_path, model, params, pad_token_id=0)
  theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
  assert theirs.config.num_labels == 1
  tokens, mask = np.maximum(tiny.ids(5, 3, 6), 1), np.ones((3, 6), bool)
  expected = expected_logits(theirs, tokens, mask)[:, 0]
  actual = jax.jit(model.apply)(hf.load(tmp_path, model), jnp.array(tokens), jnp.array(mask))
  np.testing.assert_allclose(actual[:, -1], expected, atol=2e-4)
