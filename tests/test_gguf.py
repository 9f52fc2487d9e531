"""GGUF files: tensors come back dequantised and in our order, what cannot be read is named."""

import gguf as library
import numpy as np
import pytest
import tiny
from tokenizers import pre_tokenizers

from pit_jax.exchange import gguf, weights
from pit_jax.models import architecture, pure

SHAPE = {"width": 32, "head_width": 8, "hidden": 64, "vocabulary": 40, "longest": 512}
QUANTS = library.GGMLQuantizationType
NAMES = {theirs: ours for ours, theirs in gguf.TENSORS.items()}
LAYER = {theirs: ours for ours, theirs in gguf.LAYER.items()}


def pairs_together(weight, heads):
  """What llama.cpp's converter does to queries and keys of the llama architecture."""
  half = weight.shape[0] // heads // 2
  return weight.reshape(heads, 2, half, -1).swapaxes(1, 2).reshape(weight.shape)


def describe(writer, config):
  writer.add_block_count(config.layers)
  writer.add_context_length(config.longest)
  writer.add_embedding_length(config.width)
  writer.add_feed_forward_length(config.hidden)
  writer.add_head_count(config.heads)
  writer.add_head_count_kv(config.kv_heads)
  writer.add_key_length(config.head_width)
  writer.add_rope_freq_base(config.rope.theta)
  writer.add_layer_norm_rms_eps(config.norm_epsilon)


def write(path, model, params, family="llama", kind=QUANTS.F32, more=lambda writer: None):
  """Writes a model as llama.cpp's converter would, matrices of one kind."""
  writer, config = library.GGUFWriter(path, family), model.config
  describe(writer, config)
  more(writer)
  leaves = pure.named(params)
  for entry in weights.entries(model):
    for layer, name in enumerate(entry.theirs):
      tensor = entry.to_theirs(
        leaves[entry.ours][layer] if entry.is_stacked else leaves[entry.ours]
      )
      if family == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
        tensor = pairs_together(tensor, config.heads if "q_proj" in name else config.kv_heads)
      short = name.removeprefix(f"model.layers.{layer}.")
      theirs = f"blk.{layer}.{LAYER[short]}" if short in LAYER else NAMES[name]
      quantised = kind if tensor.ndim == 2 else QUANTS.F32
      data = library.quants.quantize(tensor, quantised)
      writer.add_tensor(theirs, data, raw_dtype=quantised)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()


@pytest.mark.parametrize(
  "family, switches",
  [
    ("llama", {}),
    ("llama", {"tied": False, "kv_heads": 4}),
    ("qwen2", {"qkv_bias": True}),
    ("qwen3", {"qk_norm": True, "tied": False}),
  ],
)
def test_a_file_is_the_model_that_was_written(tmp_path, family, switches):
  model = tiny.language(**SHAPE | switches)
  params = tiny.parameters(model, seed=0)
  write(tmp_path / "x.gguf", model, params, family)
  file = gguf.File(tmp_path / "x.gguf")
  assert file.config == model.config
  found, wanted = (pure.named(tree) for tree in (weights.fill(model, file), params))
  for name, leaf in wanted.items():
    np.testing.assert_array_equal(found[name], leaf, err_msg=name)


def slow_divisors(theta, width, factor):
  """What llama.cpp's converter writes for Llama 3.1: by wavelength, with a blend in between."""
  divisors = []
  for pair in range(width // 2):
    wave = 2 * np.pi * theta ** (2 * pair / width)
    if wave < 8192 / 4:
      divisors.append(1.0)
    elif wave > 8192 / 1:
      divisors.append(factor)
    else:
      smooth = (8192 / wave - 1) / (4 - 1)
      divisors.append(1 / ((1 - smooth) / factor + smooth))
  return np.array(divisors, np.float32)


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_the_scaling_of_llama_3_is_read_off_its_divisors(tmp_path, factor):
  rope = architecture.Rope(5e5, "llama3", factor, original_length=8192, slow=1.0, fast=4.0)
  model = tiny.language(**SHAPE | {"head_width": 64, "rope": rope})
  params, divisors = tiny.parameters(model, seed=0), slow_divisors(5e5, 64, factor)
  assert len(set(divisors.tolist())) > 2  # some pairs lie in between
  name = "rope_freqs.weight"
  write(tmp_path / "x.gguf", model, params, more=lambda w: w.add_tensor(name, divisors))
  file = gguf.File(tmp_path / "x.gguf")
  assert file.config == model.config
  assert weights.fill(model, file)  # a tensor that is no weight is not in its way


def test_linear_scaling_is_read(tmp_path):
  rope = architecture.Rope(1e4, "linear", 4.0)
  model = tiny.language(**SHAPE | {"rope": rope})

  def more(writer):
    writer.add_rope_scaling_type(library.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(4.0)

  write(tmp_path / "x.gguf", model, tiny.parameters(model, seed=0), more=more)
  assert gguf.File(tmp_path / "x.gguf").config == model.config


@pytest.mark.parametrize(
  "kind, error", [("F16", 1e-3), ("BF16", 8e-3), ("Q8_0", 1e-2), ("Q4_0", 0.2), ("Q4_1", 0.15)]
)
def test_quantised_tensors_are_near_what_they_were(tmp_path, kind, error):
  model = tiny.language(**SHAPE)
  params = tiny.parameters(model, seed=1)
  write(tmp_path / "x.gguf", model, params, kind=QUANTS[kind])
  found = pure.named(weights.fill(model, gguf.File(tmp_path / "x.gguf")))
  for name, leaf in pure.named(params).items():
    off = np.abs(np.asarray(found[name]) - leaf).max() / np.abs(leaf).max()
    assert off < error, name
    assert name.endswith("scale") or off > 0, name


def slow_q4_k(block: bytes) -> np.ndarray:
  """Dequantises 256 values: eight groups of 32, each with a 6-bit scale and a 6-bit minimum."""
  scale, least = np.frombuffer(block[:4], np.float16).astype(np.float64)
  packed, nibbles, values = block[4:16], block[16:], []
  for group in range(8):
    if group < 4:
      d, m = packed[group] & 63, packed[group + 4] & 63
    else:
      d = (packed[group + 4] & 15) | ((packed[group - 4] >> 6) << 4)
      m = (packed[group + 4] >> 4) | ((packed[group] >> 6) << 4)
    chunk = nibbles[32 * (group // 2) : 32 * (group // 2) + 32]
    values += [scale * d * ((byte >> 4 * (group % 2)) & 15) - least * m for byte in chunk]
  return np.array(values)


def slow_q6_k(block: bytes) -> np.ndarray:
  """Dequantises 256 values of 6 bits: 4 low, 2 high, sixteen groups of 16 with 8-bit scales."""
  low, high = block[:128], block[128:192]
  scales = np.frombuffer(block[192:208], np.int8).astype(np.float64)
  scale, values = float(np.frombuffer(block[208:], np.float16)[0]), np.zeros(256)
  for i in range(256):
    half, place = divmod(i, 128)
    quarter, lane = divmod(place, 32)
    bits = (low[64 * half + 32 * (quarter % 2) + lane] >> 4 * (quarter // 2)) & 15
    bits |= ((high[32 * half + lane] >> 2 * quarter) & 3) << 4
    values[i] = scale * scales[i // 16] * (bits - 32)
  return values


@pytest.mark.parametrize("kind, size, slow", [("Q4_K", 144, slow_q4_k), ("Q6_K", 210, slow_q6_k)])
def test_k_quants_equal_a_slow_reading_of_the_bits(tmp_path, kind, size, slow):
  model = tiny.language(**SHAPE | {"width": 256, "layers": 1, "vocabulary": 3})
  rng = np.random.default_rng(3)
  blocks = rng.integers(0, 256, (3, size)).astype(np.uint8)
  halves = np.array([0.01, 0.02, 0.03], np.float16)[:, None].view(np.uint8)
  start = 0 if kind == "Q4_K" else 208
  blocks[:, start : start + 2] = halves
  if kind == "Q4_K":
    blocks[:, 2:4] = halves
  writer = library.GGUFWriter(tmp_path / "x.gguf", "llama")
  describe(writer, model.config)
  writer.add_tensor("token_embd.weight", blocks, raw_dtype=QUANTS[kind])
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  found = gguf.File(tmp_path / "x.gguf").read("model.embed_tokens.weight")
  expected = np.stack([slow(bytes(block)) for block in blocks])
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def broken(path, kind):
  model = tiny.language(**SHAPE)
  params = tiny.parameters(model, seed=4)
  if kind == "cut":
    write(path, model, params)
    path.write_bytes(path.read_bytes()[:200])
  elif kind == "family":
    write(path, model, params, "llama", more=lambda writer: None)
    path.write_bytes(path.read_bytes().replace(b"llama", b"mamba"))
  elif kind == "scaling":
    write(path, model, params, more=lambda w: w.add_rope_scaling_type(library.RopeScalingType.YARN))
  elif kind == "divisors":
    divisors = np.array([1.0, 1.0, 2.0, 8.0], np.float32)
    write(path, model, params, more=lambda w: w.add_tensor("rope_freqs.weight", divisors))
  elif kind == "type":
    write(path, model, params, kind=QUANTS.Q5_0)
  else:
    path.write_text("no such thing")
  return model


@pytest.mark.parametrize(
  "kind, said",
  [
    ("cut", "no readable GGUF file"),
    ("text", "no readable GGUF file"),
    ("family", "'mamba' is not supported in GGUF files; supported are llama, qwen2"),
    ("scaling", "rope scaling 'yarn' is not read from GGUF"),
    ("divisors", "rope_freqs.weight are not those of Llama 3"),
    ("type", "is of type Q5_0; F32, F16"),
  ],
)
def test_what_cannot_be_read_is_named(tmp_path, kind, said):
  path = tmp_path / "x.gguf"
  model = broken(path, kind)
  with pytest.raises(ValueError) as error:
    file = gguf.File(path)
    assert file.config
    weights.fill(pure.language_model(model.config), file)
  assert said in str(error.value) and str(path) in str(error.value)


# A tokenizer, as tests/test_gguf_text.py reads it

MERGES = ["h e", "l l", "he ll", "hell o", "1 2", "12 3"]
UNMERGED = "yes"  # a token that no merge makes

TERSE = (  # a turn as short as the prompts of tiny runs
  "{% for message in messages %}<|im_start|>{{ message['role'][0] }} {{ message['content'] }}"
  "<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>a {% endif %}"
)


def describe_words(writer, split="smollm"):
  letters = sorted(pre_tokenizers.ByteLevel.alphabet())
  learnt = [merge.replace(" ", "") for merge in MERGES]
  words = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *letters, *learnt, UNMERGED]
  writer.add_tokenizer_model("gpt2")
  writer.add_tokenizer_pre(split)
  writer.add_token_list(words)
  writer.add_token_types([3] * 3 + [1] * (len(words) - 3))
  writer.add_token_merges(MERGES)
  writer.add_bos_token_id(1)
  writer.add_eos_token_id(2)
  writer.add_unk_token_id(0)
  writer.add_pad_token_id(2)
  writer.add_chat_template(TERSE)
  return words


def write_words(path, split="smollm", more=lambda writer: None):
  writer = library.GGUFWriter(path, "llama")
  words = describe_words(writer, split)
  more(writer)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.close()
  return words
