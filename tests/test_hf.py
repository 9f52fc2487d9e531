"""Model directories: what was written is read, to any sharding, and what does not fit is named."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import tiny

from pit_jax import parallel
from pit_jax.exchange import families, hf, peft
from pit_jax.models import architecture, pure

ALL = {
  "llama": {"tied": False, "rope": architecture.Rope(7.0, "llama3", 2.0, 32, 1.0, 4.0)},
  "mistral": {"window": 3},
  "qwen2": {"qkv_bias": True, "window": 5, "windowed": (False, True)},
  "qwen3": {"qk_norm": True, "rope": architecture.Rope(9.0, "yarn", 4.0, 64, 1.0, 32.0, 1.5)},
  "gemma2": {
    "activation": "gelu_tanh",
    "post_norms": True,
    "norm_offset": 1.0,
    "embedding_scale": 4.0,
    "attention_scale": 0.5,
    "attention_cap": 5.0,
    "logit_cap": 3.0,
    "window": 3,
    "windowed": (True, False),
  },
}


def assert_equal(left, right):
  left, right = pure.named(left), pure.named(right)
  assert left.keys() == right.keys()
  for name in left:
    assert left[name].dtype == right[name].dtype
    np.testing.assert_array_equal(left[name], right[name])


@pytest.mark.parametrize("kind", [tiny.language, tiny.scalar])
@pytest.mark.parametrize("family", ALL)
def test_a_model_survives_the_round_trip(tmp_path, kind, family):
  model = kind(**ALL[family])
  params = tiny.parameters(model, seed=0)
  hf.save(tmp_path / "new" / "folder", model, params)
  directory = tmp_path / "new" / "folder"
  assert json.loads((directory / "config.json").read_text())["model_type"] == family
  assert families.read(directory) == model.config
  assert_equal(hf.load(directory, model), params)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_read_as_it_is_and_written_again_without_loss(tmp_path, dtype):
  model = tiny.language()
  hf.save(tmp_path / "a", model, tiny.parameters(model, seed=1), dtype=dtype)
  hf.save(tmp_path / "b", model, hf.load(tmp_path / "a", model), dtype=dtype)
  weights = [(tmp_path / name / hf.WEIGHTS).read_bytes() for name in "ab"]
  assert weights[0] == weights[1]


def test_many_files_say_what_one_says(tmp_path):
  model = tiny.language(tied=False)
  params = tiny.parameters(model, seed=2)
  hf.save(tmp_path, model, params, shard_bytes=1_500)
  files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
  assert len(files) > 3 and files[0] == f"model-00001-of-{len(files):05}.safetensors"
  index = json.loads((tmp_path / hf.INDEX).read_text())
  assert set(index["weight_map"].values()) == set(files)
  assert index["metadata"]["total_size"] == 4 * sum(x.size for x in jax.tree.leaves(params))
  assert_equal(hf.load(tmp_path, model), params)


@pytest.mark.parametrize("shape", [(1, 8, 1), (2, 2, 2)])
def test_parameters_go_straight_to_their_devices(tmp_path, shape):
  model, mesh = tiny.scalar(), parallel.make_mesh(shape)
  params = tiny.parameters(model, seed=3)
  hf.save(tmp_path, model, params)
  abstract = jax.eval_shape(model.init, jax.random.key(0))
  homes = parallel.partition(abstract, model.axes, mesh)
  loaded = hf.load(tmp_path, model, homes)
  assert_equal(loaded, params)
  jax.tree.map(lambda leaf, home: pytest.fail() if leaf.sharding != home else None, loaded, homes)
  query = loaded["trunk"]["blocks"]["query"]
  assert query.addressable_shards[0].data.size < query.size


def test_a_tied_head_may_be_written_out(tmp_path):
  model = tiny.language()
  params = tiny.parameters(model, seed=4)
  hf.save(tmp_path, model, params)
  tensors = safetensors.numpy.load_file(tmp_path / hf.WEIGHTS)
  tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
  safetensors.numpy.save_file(tensors, tmp_path / hf.WEIGHTS)
  assert_equal(hf.load(tmp_path, model), params)


def test_rotation_frequencies_may_be_written_out(tmp_path):
  model = tiny.language()
  params = tiny.parameters(model, seed=4)
  hf.save(tmp_path, model, params)
  tensors = safetensors.numpy.load_file(tmp_path / hf.WEIGHTS)
  for layer in range(2):
    name = f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"
    tensors[name] = (1e4 ** -np.linspace(0, 1, 2, endpoint=False)).astype(np.float32)
  safetensors.numpy.save_file(tensors, tmp_path / hf.WEIGHTS)
  assert_equal(hf.load(tmp_path, model), params)


def test_saving_again_replaces_the_model(tmp_path):
  model = tiny.scalar()
  for seed, limit in ((0, 1_000), (1, hf.SHARD_BYTES)):
    hf.save(tmp_path, model, tiny.parameters(model, seed), shard_bytes=limit)
  assert_equal(hf.load(tmp_path, model), tiny.parameters(model, seed=1))


def test_everything_that_does_not_fit_is_listed(tmp_path):
  model = tiny.language(tied=False)
  hf.save(tmp_path, model, tiny.parameters(model, seed=0))
  tensors = safetensors.numpy.load_file(tmp_path / hf.WEIGHTS)
  del tensors["lm_head.weight"], tensors["model.layers.1.mlp.up_proj.weight"]
  tensors["model.norm.weight"] = np.zeros(3, np.float32)
  tensors["model.layers.0.self_attn.q_proj.weight"] = np.zeros((16, 16), np.int8)
  tensors["extra"] = np.zeros(2, np.float32)
  safetensors.numpy.save_file(tensors, tmp_path / hf.WEIGHTS)
  with pytest.raises(ValueError) as error:
    hf.load(tmp_path, model)
  message = str(error.value)
  assert message.startswith(f"{tmp_path} does not fit the model")
  for part in (
    "lm_head.weight is missing",
    "model.layers.1.mlp.up_proj.weight is missing",
    "model.norm.weight has shape (3,), not (16,)",
    "q_proj.weight is of type I8",
    "extra is not part of the model",
  ):
    assert part in message


def cut(directory):
  path = directory / hf.WEIGHTS
  path.write_bytes(path.read_bytes()[:-100])


def leave_a_pickle(directory):
  (directory / hf.WEIGHTS).rename(directory / "pytorch_model.bin")


@pytest.mark.parametrize(
  "damage, said",
  [
    (leave_a_pickle, "pickles above all, are not read"),
    (cut, "holds no readable weights"),
    (lambda directory: (directory / hf.WEIGHTS).write_bytes(b""), "holds no readable weights"),
    (lambda directory: (directory / hf.INDEX).write_text("{"), "holds no readable weights"),
  ],
)
def test_weights_that_cannot_be_read_are_named(tmp_path, damage, said):
  model = tiny.language()
  hf.save(tmp_path, model, tiny.parameters(model, seed=0))
  damage(tmp_path)
  with pytest.raises(ValueError, match=said) as error:
    hf.load(tmp_path, model)
  assert str(tmp_path) in str(error.value)


PUBLISHED = {"model_type": "llama", "hidden_size": 16, "num_attention_heads": 4, "vocab_size": 11}


@pytest.mark.parametrize(
  "raw, said",
  [
    ({"model_type": "mamba"}, "'mamba' is not supported; supported are llama, mistral, qwen2"),
    ({}, "None is not supported"),
    ({**PUBLISHED, "mlp_bias": True}, "mlp_bias=True"),
    ({**PUBLISHED, "flash": 3}, "flash is no field of llama; the decoder knows"),
    ({**PUBLISHED, "hidden_act": "relu"}, "'relu' is not supported; supported are silu and gelu"),
    ({**PUBLISHED, "num_attention_heads": "four"}, "num_attention_heads"),
    ({**PUBLISHED, "num_key_value_heads": 3}, "heads=4 is not a multiple of kv_heads=3"),
    ({**PUBLISHED, "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "'dynamic'"),
    (
      {**PUBLISHED, "rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
      "partial_rotary_factor",
    ),
    ({**PUBLISHED, "quantization_config": {"quant_method": "awq"}}, "quantization_config"),
  ],
)
def test_what_the_decoder_cannot_be_is_refused_by_name(tmp_path, raw, said):
  (tmp_path / "config.json").write_text(json.dumps(raw))
  with pytest.raises(ValueError) as error:
    families.read(tmp_path)
  assert said in str(error.value) and str(tmp_path / "config.json") in str(error.value)


@pytest.mark.parametrize("content", [None, "{", "[]"], ids=["none", "broken", "no object"])
def test_a_directory_without_a_readable_file_is_refused(tmp_path, content):
  if content is not None:
    (tmp_path / "config.json").write_text(content)
  with pytest.raises(ValueError, match=r"config\.json"):
    families.read(tmp_path)


def test_fields_of_older_files_and_switches_that_are_off_are_no_obstacle(tmp_path):
  raw = PUBLISHED | {"rope_theta": 500, "torch_dtype": "bfloat16", "use_mrope": False}
  (tmp_path / "config.json").write_text(json.dumps(raw | {"transformers.js_config": {}}))
  assert families.read(tmp_path).rope == architecture.Rope(theta=500.0)


def test_switches_that_no_family_has_together_are_not_written():
  config = tiny.config(qk_norm=True, logit_cap=3.0)
  with pytest.raises(ValueError, match=r"nearest family is qwen3, which has no such logit_cap"):
    families.write(config)


def test_a_score_with_a_bias_has_no_file(tmp_path):
  model = tiny.scalar(adapter=architecture.Adapter(rank=1, alpha=1.0))
  params = tiny.parameters(model, seed=5) | {"bias": jnp.float32(0.25)}
  for save in (hf.save, functools.partial(peft.save, base="base")):
    with pytest.raises(
      ValueError, match=r"bias is 0\.25, and a classifier of transformers has none"
    ):
      save(tmp_path, model, params)
  assert not list(tmp_path.iterdir())


def test_a_file_of_an_earlier_version_that_has_a_bias_is_refused(tmp_path):
  hf.save(tmp_path, tiny.scalar(), tiny.parameters(tiny.scalar(), seed=5))
  path = tmp_path / "config.json"
  path.write_text(json.dumps(json.loads(path.read_text()) | {"score_bias": 0.25}))
  with pytest.raises(ValueError, match="score_bias is no field of llama"):
    families.read(tmp_path)


def with_tensors(directory, **changes):
  tensors = safetensors.numpy.load_file(directory / hf.WEIGHTS)
  safetensors.numpy.save_file(tensors | changes, directory / hf.WEIGHTS)


@pytest.mark.parity
def test_a_head_of_its_own_stays_whatever_the_file_says_of_tying(tmp_path):
  torch = pytest.importorskip("torch", reason="torch is absent; install the extra `parity`")
  import transformers

  hf.save(tmp_path, tiny.language(), tiny.parameters(tiny.language(), seed=4))
  head = np.random.default_rng(0).normal(size=(11, 16)).astype(np.float32)
  with_tensors(tmp_path, **{"lm_head.weight": head})
  theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
  tokens = tiny.ids(1, 2, 5)
  with torch.no_grad():
    expected = theirs(torch.tensor(tokens, dtype=torch.long)).logits.numpy()
  assert json.loads((tmp_path / "config.json").read_text())["tie_word_embeddings"] is True
  model = tiny.language(tied=False)
  assert hf.read(tmp_path) == model.config
  found = jax.jit(model.apply)(hf.load(tmp_path, model), tokens, np.ones(tokens.shape, bool))
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_a_tied_embedding_may_be_written_as_the_head(tmp_path):
  model = tiny.language()
  params = tiny.parameters(model, seed=4)
  hf.save(tmp_path, model, params)
  tensors = safetensors.numpy.load_file(tmp_path / hf.WEIGHTS)
  tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
  safetensors.numpy.save_file(tensors, tmp_path / hf.WEIGHTS)
  assert hf.read(tmp_path) == model.config
  assert_equal(hf.load(tmp_path, model), params)


def test_without_weights_a_plan_reads_the_file_alone(tmp_path):
  model = tiny.language()
  hf.save(tmp_path, model, tiny.parameters(model, seed=4))
  (tmp_path / hf.WEIGHTS).unlink()
  assert hf.read(tmp_path) == model.config


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["model.layers.1.mlp.up_proj.weight", "model.norm.weight"])
def test_what_is_not_finite_is_refused_by_name(tmp_path, name, value):
  model = tiny.language()
  hf.save(tmp_path, model, tiny.parameters(model, seed=4), dtype="bfloat16")
  tensor = safetensors.numpy.load_file(tmp_path / hf.WEIGHTS)[name]
  tensor.flat[3] = value
  with_tensors(tmp_path, **{name: tensor})
  with pytest.raises(ValueError, match=f"{name} holds 1 of {tensor.size} values") as error:
    hf.load(tmp_path, model)
  assert str(tmp_path) in str(error.value)
