"""Fields of published config.json files: leftovers are passed over, other networks are refused."""

import json

import jax
import numpy as np
import pytest
import tiny

from pit_jax.exchange import families, fields, hf

FAMILIES = {"llama": {}, "qwen2": {"qkv_bias": True}, "qwen3": {"qk_norm": True}}
LEFTOVERS = {  # of transformers 4, of those who trained it, and of sampling
  "_attn_implementation_autoset": True,
  "_flash_attn_2_enabled": True,
  "_name_or_path": "someone/model",
  "add_cross_attention": False,
  "attention_dropout": 0.1,
  "auto_map": {"AutoModelForCausalLM": "modeling_own.Own"},
  "bad_words_ids": [[3]],
  "begin_suppress_tokens": None,
  "bos_token_id": 1,
  "chunk_size_feed_forward": 0,
  "classifier_dropout": 0.2,
  "cross_attention_hidden_size": None,
  "do_sample": True,
  "eos_token_id": [1, 2],
  "finetuning_task": None,
  "hidden_dropout": 0.1,
  "is_decoder": True,
  "is_encoder_decoder": False,
  "length_penalty": 1.0,
  "max_length": 4096,
  "max_sequence_length": 2048,
  "model_max_length": 2048,
  "neftune_noise_alpha": 5,
  "num_beams": 1,
  "output_attentions": True,
  "output_hidden_states": True,
  "partial_rotary_factor": 1.0,
  "pretraining_tp": 2,
  "pruned_heads": {},
  "quantization_config": None,
  "repetition_penalty": 1.1,
  "resid_pdrop": 0.1,
  "rope_interleaved": False,
  "sep_token_id": None,
  "suppress_tokens": None,
  "task_specific_params": None,
  "temperature": 0.6,
  "tf_legacy_loss": False,
  "tie_encoder_decoder": False,
  "tokenizer_class": "LlamaTokenizer",
  "tokenizer_padding_side": "right",
  "top_k": 20,
  "top_p": 0.9,
  "torch_dtype": "float32",
  "torchscript": False,
  "typical_p": 1.0,
  "unsloth_fixed": True,
  "unsloth_version": "2025.1",
  "use_bfloat16": False,
  "use_cache": False,
}
NETWORKS = {  # → in families that have no such switch
  "add_cross_attention": True,
  "clip_qkv": 8.0,
  "embedding_multiplier": 12.0,
  "is_encoder_decoder": True,
  "layer_types": ["full_attention", "linear_attention"],
  "logits_scaling": 8.0,
  "mlp_bias": True,
  "num_local_experts": 8,
  "partial_rotary_factor": 0.5,
  "pruned_heads": {"0": [1]},
  "quantization": {"bits": 4},
  "quantization_config": {"quant_method": "bitsandbytes"},
  "residual_multiplier": 0.22,
  "rope_local_base_freq": 10_000.0,
  "sliding_window_pattern": 2,
  "use_bidirectional_attention": True,
}


def change(directory, more):
  path = directory / "config.json"
  path.write_text(json.dumps(json.loads(path.read_text()) | more))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """Returns a function of a family: a model's directory, the model and its parameters."""

  def save(family):
    directory = tmp_path_factory.mktemp(family)
    model = tiny.language(**FAMILIES[family])
    params = tiny.parameters(model, seed=0)
    hf.save(directory, model, params)
    return directory, model, params

  return save


@pytest.mark.parametrize("family", FAMILIES)
def test_what_says_nothing_about_the_network_is_passed_over(saved, family):
  directory, model, _ = saved(family)
  change(directory, LEFTOVERS)
  assert families.read(directory) == model.config


@pytest.mark.parity
def test_transformers_says_the_same_with_and_without_leftovers(saved):
  torch = pytest.importorskip("torch", reason="torch is absent; install the extra `parity`")
  import transformers

  directory, model, params = saved("llama")
  change(directory, LEFTOVERS)
  theirs = transformers.AutoModelForCausalLM.from_pretrained(directory).eval()
  tokens = tiny.ids(1, 2, 5)
  with torch.no_grad():
    expected = theirs(torch.tensor(tokens, dtype=torch.long)).logits.numpy()
  found = jax.jit(model.apply)(hf.load(directory, model), tokens, np.ones(tokens.shape, bool))
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_what_may_describe_another_network_is_refused_by_name(saved, name):
  directory, _, _ = saved("llama")
  change(directory, {name: NETWORKS[name]})
  with pytest.raises(ValueError, match=name) as error:
    families.read(directory)
  assert str(directory / "config.json") in str(error.value)


def test_a_head_width_counts_where_the_class_does_not_declare_it(tmp_path):
  """Of Qwen 2 transformers reads head_dim all the same."""
  shape = {"model_type": "qwen2", "hidden_size": 16, "num_attention_heads": 4, "vocab_size": 11}
  shape |= {"num_key_value_heads": 2, "head_dim": 6}
  (tmp_path / "config.json").write_text(json.dumps(shape))
  assert families.read(tmp_path).head_width == 6


def test_no_field_of_the_network_is_called_meaningless():
  """What the classes of the families read of a file is read here, too."""
  read = {
    "attention_bias",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "head_dim",
    "hidden_act",
    "hidden_activation",
    "hidden_size",
    "intermediate_size",
    "layer_types",
    "max_window_layers",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "query_pre_attn_scalar",
    "rms_norm_eps",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "sliding_window",
    "tie_word_embeddings",
    "use_sliding_window",
    "vocab_size",
  }
  assert not [name for name in read if fields.is_meaningless(name) or name in fields.OFF]
