"""What a GGUF file says of its network is used or refused by name."""

import numpy as np
import pytest
import test_gguf
import tiny
from gguf import GGUFWriter, RopeScalingType

from pit_jax.exchange import gguf, weights
from pit_jax.models import architecture, pure


def config_of(tmp_path, more, family="llama", **switches):
  model = tiny.language(**test_gguf.SHAPE | switches)
  path = tmp_path / "x.gguf"
  test_gguf.write(path, model, tiny.parameters(model, seed=0), family, more=more)
  return gguf.File(path).config


MEANINGLESS = {  # what llama.cpp's converter writes of every model, and what is off
  "rope dimensions": lambda w: w.add_rope_dimension_count(8),
  "value length": lambda w: w.add_value_length(8),
  "vocabulary": lambda w: w.add_vocab_size(40),
  "layout": lambda w: w.add_tensor_data_layout("Meta AI original pth"),
  "no experts": lambda w: (w.add_expert_count(0), w.add_expert_used_count(0)),
  "causal": lambda w: w.add_causal_attention(True),
  "no scaling": lambda w: (
    w.add_rope_scaling_type(RopeScalingType.NONE),
    w.add_rope_scaling_factor(4.0),
  ),
  "a factor of 0": lambda w: w.add_rope_scaling_factor(0.0),
  "once scaled": lambda w: w.add_rope_scaling_finetuned(True),
  "its name": lambda w: (w.add_name("own"), w.add_quantization_version(2), w.add_file_type(0)),
}


@pytest.mark.parametrize("name", MEANINGLESS)
def test_what_says_nothing_is_passed_over(tmp_path, name):
  assert config_of(tmp_path, MEANINGLESS[name]) == tiny.language(**test_gguf.SHAPE).config


@pytest.mark.parametrize("key", ["rope.scaling.factor", "rope.scale_linear"])
def test_a_factor_without_a_type_is_a_linear_one(tmp_path, key):
  """As llama.cpp reads it, under the name of older files too."""
  config = config_of(tmp_path, lambda writer: writer.add_float32(f"llama.{key}", 4.0))
  assert config.rope == architecture.Rope(1e4, "linear", 4.0)


def test_one_count_per_layer_is_read_where_all_are_alike(tmp_path):
  model = tiny.language(**test_gguf.SHAPE)
  for kv_heads, is_read in (([2, 2], True), ([2, 4], False)):
    writer = GGUFWriter(tmp_path / "x.gguf", "llama")
    test_gguf.describe(writer, model.config)
    writer.kv_data[0].pop("llama.attention.head_count_kv")
    writer.add_head_count_kv(kv_heads)
    writer.add_tensor("token_embd.weight", np.zeros((40, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = gguf.File(tmp_path / "x.gguf")
    if is_read:
      assert file.config.kv_heads == 2
    else:
      with pytest.raises(ValueError, match=r"head_count_kv=\[2, 4\] differs between layers"):
        assert file.config


REFUSED = {  # what is said → the key that the message names
  "attention.causal=False": lambda w: w.add_causal_attention(False),
  "attention.clamp_kqv=8.0": lambda w: w.add_clamp_kqv(8.0),
  "attention.max_alibi_bias=8.0": lambda w: w.add_max_alibi_bias(8.0),
  "attention.scale=0.25": lambda w: w.add_attention_scale(0.25),
  "attention.value_length=16": lambda w: w.add_value_length(16),
  "attn_logit_softcapping=50.0": lambda w: w.add_attn_logit_softcapping(50.0),
  "embedding_scale=12.0": lambda w: w.add_embedding_scale(12.0),
  "expert_count=8": lambda w: w.add_expert_count(8),
  "expert_feed_forward_length=32": lambda w: w.add_expert_feed_forward_length(32),
  "final_logit_softcapping=30.0": lambda w: w.add_final_logit_softcapping(30.0),
  "logit_scale=0.5": lambda w: w.add_logit_scale(0.5),
  "residual_scale=0.25": lambda w: w.add_residual_scale(0.25),
  "rope.dimension_count=4": lambda w: w.add_rope_dimension_count(4),
  "rope.dimension_sections": lambda w: w.add_rope_dimension_sections([2, 1, 1, 0]),
  "rope.scaling.attn_factor=1.5": lambda w: w.add_rope_scaling_attn_factors(1.5),
  "rope.scaling.yarn_log_multiplier": lambda w: w.add_rope_scaling_yarn_log_mul(0.1),
  "use_parallel_residual=True": lambda w: w.add_parallel_residual(True),
  "vocab_size=41": lambda w: w.add_vocab_size(41),
  "unheard_of=3": lambda w: w.add_uint32("llama.unheard_of", 3),
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_the_decoder_has_no_switch_for_is_refused_by_name(tmp_path, said):
  with pytest.raises(ValueError, match=f"llama.{said}") as error:
    config_of(tmp_path, REFUSED[said])
  assert str(tmp_path / "x.gguf") in str(error.value)


def test_a_window_counts_in_the_family_that_has_one(tmp_path):
  def more(writer):
    writer.add_sliding_window(16)

  assert config_of(tmp_path, more).window == 16
  with pytest.raises(ValueError, match="qwen2.attention.sliding_window=16"):
    config_of(tmp_path, more, "qwen2", qkv_bias=True)
  wide = config_of(tmp_path, lambda w: w.add_sliding_window(512), "qwen2", qkv_bias=True)
  assert wide.window == 0  # as many tokens as the model was made for


def test_two_ways_of_stretching_are_one_too_many(tmp_path):
  def more(writer):
    writer.add_rope_scaling_type(RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(4.0)
    writer.add_tensor("rope_freqs.weight", np.ones(4, np.float32))

  with pytest.raises(ValueError, match="both rope_freqs.weight and a linear rope scaling of 4.0"):
    config_of(tmp_path, more)


@pytest.mark.parametrize(
  ("more", "said"),
  [
    (lambda w: w.add_type("adapter"), "general.type is 'adapter'"),
    (lambda w: w.add_uint16("split.count", 3), "one of split.count=3 files"),
  ],
)
def test_only_whole_models_are_read(tmp_path, more, said):
  with pytest.raises(ValueError, match=said):
    config_of(tmp_path, more)


def test_what_is_not_finite_is_refused_by_name(tmp_path):
  model = tiny.language(**test_gguf.SHAPE)
  params = pure.named(tiny.parameters(model, seed=0))
  params["trunk.blocks.up"][1, 0, 0] = np.nan
  test_gguf.write(tmp_path / "x.gguf", model, pure.nested(params))
  with pytest.raises(ValueError, match="model.layers.1.mlp.up_proj.weight holds 1 of"):
    weights.fill(model, gguf.File(tmp_path / "x.gguf"))
