"""Adapters that others trained: on their base they are what PEFT makes of the two."""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy
import tiny

from pit_jax.commands import convert as command_line
from pit_jax.data import text
from pit_jax.exchange import convert, families, hf, merging, peft
from pit_jax.models import pure

TOKENS = tiny.ids(7, 3, 6)
VOCABULARY = 300
SHAPES = {  # a base with a head of its own, one without, one with biases
  "apart": {"tied": False, "vocabulary": VOCABULARY},
  "tied": {"vocabulary": VOCABULARY},
  "biases": {"tied": False, "qkv_bias": True, "vocabulary": VOCABULARY},
}
FULL = [f"model.layers.{layer}.self_attn.q_proj" for layer in range(2)]
CASES = {  # → base, configuration of PEFT
  "full names": ("apart", {"target_modules": [*FULL, "model.layers.1.mlp.down_proj"]}),
  "regular expression": ("apart", {"target_modules": r".*\.layers\.0\..*(q|v|up)_proj"}),
  "every linear": ("apart", {"target_modules": "all-linear", "exclude_modules": ["k_proj"]}),
  "some layers": ("tied", {"target_modules": ["q_proj"], "layers_to_transform": [1]}),
  "ranks": (
    "apart",
    {
      "target_modules": ["q_proj", "v_proj", "gate_proj"],
      "rank_pattern": {"q_proj": 4, r"layers\.1\.mlp\.gate_proj": 1},
      "alpha_pattern": {"v_proj": 11, "model.layers.0.self_attn.q_proj": 3},
    },
  ),
  "rank-stabilised": ("apart", {"target_modules": ["q_proj", "o_proj"], "use_rslora": True}),
  "weight-decomposed": ("apart", {"target_modules": ["q_proj", "down_proj"], "use_dora": True}),
  "fan-in": ("apart", {"target_modules": ["q_proj"], "fan_in_fan_out": True}),
  "all biases": ("biases", {"target_modules": ["q_proj"], "bias": "all"}),
  "adapted biases": ("biases", {"target_modules": ["q_proj"], "bias": "lora_only"}),
  "embedding and head": ("apart", {"target_modules": ["embed_tokens", "lm_head", "q_proj"]}),
  "saved head": ("apart", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
  "saved norms": (
    "apart",
    {"target_modules": ["q_proj"], "modules_to_save": ["input_layernorm", "norm"]},
  ),
  "saved head of a tied base": (
    "tied",
    {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
  ),
  "saved embedding of a tied base": (
    "tied",
    {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
  ),
  "a classifier": ("tied", {"target_modules": ["q_proj", "up_proj"], "task_type": "SEQ_CLS"}),
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
  """Directories of language models, each with a tokenizer."""
  places = {}
  for seed, (name, shape) in enumerate(SHAPES.items()):
    places[name] = tmp_path_factory.mktemp(name)
    model = tiny.language(**shape)
    hf.save(places[name], model, tiny.parameters(model, seed), pad_token_id=0)
    text.train_tokenizer(["some words"], 270, places[name])
  return places


def train(base, directory, described):
  """Saves adapters that PEFT might have trained; returns what PEFT's merged model says."""
  torch = pytest.importorskip("torch", reason="torch is absent; install the extra `parity`")
  library = pytest.importorskip("peft", reason="peft is absent; install the extra `parity`")
  import transformers

  is_scalar = described.get("task_type") == "SEQ_CLS"
  kind = transformers.AutoModelForCausalLM
  if is_scalar:
    kind = transformers.AutoModelForSequenceClassification
  more = {"num_labels": 1} if is_scalar else {}
  torch.manual_seed(0)
  made = library.get_peft_model(
    kind.from_pretrained(base, **more), library.LoraConfig(r=2, lora_alpha=5, **described)
  )
  for parameter in made.parameters():
    if parameter.requires_grad:
      parameter.data += 0.2 * torch.randn_like(parameter)
  made.save_pretrained(directory)
  loaded = library.PeftModel.from_pretrained(kind.from_pretrained(base, **more), str(directory))
  merged = loaded.merge_and_unload().eval()
  ids = torch.tensor(TOKENS, dtype=torch.long)
  with torch.no_grad():
    return merged(ids, attention_mask=torch.ones_like(ids)).logits.numpy()


def say(directory):
  """Returns what the model of a directory says."""
  is_scalar = families.is_classifier(directory)
  model = (pure.scalar_model if is_scalar else pure.language_model)(hf.read(directory))
  params = hf.load(directory, model)
  found = np.asarray(jax.jit(model.apply)(params, TOKENS, np.ones(TOKENS.shape, bool)))
  return found[:, -1:] if is_scalar else found


@pytest.mark.parity
@pytest.mark.parametrize("case", CASES)
def test_a_base_with_adapters_is_what_peft_merges(bases, tmp_path, case):
  base, described = CASES[case]
  expected = train(bases[base], tmp_path / "adapter", {"task_type": "CAUSAL_LM"} | described)
  convert.bring_in(bases[base], tmp_path / "out", adapter=tmp_path / "adapter")
  np.testing.assert_allclose(say(tmp_path / "out"), expected, rtol=0, atol=1e-5)


# Adapters written down by hand, as PEFT names them


def write(directory, **changes):
  """Writes adapters of one matrix; the product of A and B is 1 at [0, 0]."""
  a = np.zeros((2, 16), np.float32)
  b = np.zeros((16, 2), np.float32)
  a[0, 0] = b[0, 0] = 1
  name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
  directory.mkdir()
  tensors = {name.format("A"): a, name.format("B"): b}
  safetensors.numpy.save_file(tensors, directory / peft.WEIGHTS)
  described = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 6}
  described |= {"target_modules": ["model.layers.0.self_attn.q_proj"], "bias": "none"} | changes
  (directory / peft.CONFIG).write_text(json.dumps(described))
  return directory


def test_the_command_merges(bases, tmp_path):
  adapter = write(tmp_path / "adapter")
  arguments = [f"--source={bases['tied']}", f"--adapter={adapter}", f"--output={tmp_path / 'out'}"]
  command_line.main(["import", *arguments])
  name = "model.layers.0.self_attn.q_proj.weight"
  before = safetensors.numpy.load_file(bases["tied"] / hf.WEIGHTS)[name]
  after = safetensors.numpy.load_file(tmp_path / "out" / hf.WEIGHTS)[name]
  expected = np.zeros((16, 16))
  expected[0, 0] = 3.0
  np.testing.assert_allclose(after - before, expected, atol=1e-6)


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"peft_type": "IA3"}, r"peft_type='IA3' \(only 'LORA'\)"),
    ({"task_type": "SEQ_2_SEQ_LM"}, "task_type='SEQ_2_SEQ_LM'"),
    ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa'"),
    ({"lora_bias": True}, "lora_bias=True"),
    ({"trainable_token_indices": [1]}, "trainable_token_indices"),
    ({"target_parameters": ["mlp.experts"]}, "target_parameters"),
    ({"layer_replication": [[0, 2]]}, "layer_replication"),
    ({"use_dora": True}, "lora_A, lora_B, which are no pair"),
    ({"r": 3}, "not of rank 3"),
    (
      {"target_modules": ["q_proj"]},
      r"model.layers.1.self_attn.q_proj is to be adapted and is not",
    ),
    ({"target_modules": ["v_proj"]}, r"model.layers.0.self_attn.q_proj is adapted unasked"),
  ],
)
def test_what_cannot_be_merged_is_refused_by_name(bases, tmp_path, changes, said):
  write(tmp_path / "adapter", **changes)
  with pytest.raises(ValueError, match=said) as error:
    convert.bring_in(bases["tied"], tmp_path / "out", adapter=tmp_path / "adapter")
  assert str(tmp_path / "adapter") in str(error.value)
  assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
  ("name", "shape", "said"),
  [
    ("model.layers.7.mlp.up_proj.lora_A.weight", (2, 16), "lora_A, which are no pair"),
    ("model.embed_tokens.weight", (301, 16), r"embed_tokens.weight .* has shape \(301, 16\)"),
    ("model.layers.0.self_attn.extra.weight", (3,), "the base's is not there"),
  ],
)
def test_tensors_that_do_not_fit_are_named(bases, tmp_path, name, shape, said):
  path = write(tmp_path / "adapter") / peft.WEIGHTS
  tensors = safetensors.numpy.load_file(path) | {f"base_model.model.{name}": np.ones(shape)}
  safetensors.numpy.save_file(tensors, path)
  with pytest.raises(ValueError, match=said):
    convert.bring_in(bases["tied"], tmp_path / "out", adapter=tmp_path / "adapter")


def test_an_adapted_head_of_a_tied_base_is_refused(bases, tmp_path):
  adapter = write(tmp_path / "adapter", target_modules=["lm_head"])
  tensors = {
    f"base_model.model.lm_head.lora_{name}.weight": np.ones(shape, np.float32)
    for name, shape in (("A", (2, 16)), ("B", (VOCABULARY, 2)))
  }
  safetensors.numpy.save_file(tensors, adapter / peft.WEIGHTS)
  with pytest.raises(ValueError, match="the base's head is its embedding"):
    convert.bring_in(bases["tied"], tmp_path / "out", adapter=adapter)


def test_a_directory_of_adapters_is_no_model(bases, tmp_path):
  adapter = write(tmp_path / "adapter", base_model_name_or_path="someone/base")
  for command in (lambda: hf.read(adapter), lambda: convert.bring_in(adapter, tmp_path / "out")):
    with pytest.raises(ValueError, match=r"adapters of PEFT .*'someone/base'.*--adapter="):
      command()


def test_a_rank_of_others_is_checked_by_the_first_pattern():
  patterns = {"q_proj": 4, "self_attn.q_proj": 8}
  assert merging._by_pattern(patterns, "model.layers.0.self_attn.q_proj", 2) == 4
  assert merging._by_pattern(patterns, "model.layers.0.self_attn.v_proj", 2) == 2
