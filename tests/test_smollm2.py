"""A real pretrained model, from its GGUF file: what transformers says of it, we say."""

import functools
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import smollm2

from pit_jax import types
from pit_jax.data import chat, template, text
from pit_jax.exchange import families, hf
from pit_jax.models import pure
from pit_jax.rollout import decode

torch = pytest.importorskip("torch", reason="torch is absent; install the extra `parity`")
pytestmark = [pytest.mark.parity, pytest.mark.slow]

PROMPTS = [
  "What is the capital of France?",
  "Write a haiku about the sea.",
  "List three prime numbers.",
  "Explain why the sky is blue in one sentence.",
  "How do I boil an egg?",
  "Translate 'good morning' into Spanish.",
  "Who wrote Hamlet?",
  "What is 12 times 12?",
  "Name a mammal that lays eggs.",
  "Give me a tip for sleeping better.",
]
LENGTH = 64


@pytest.fixture(scope="module")
def loaded():
  directory = smollm2.directory()
  model = pure.language_model(families.read(directory))
  return directory, model, hf.load(directory, model)


def talk(directory):
  import transformers

  words = transformers.AutoTokenizer.from_pretrained(directory)
  return [
    words.apply_chat_template(
      [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
    )
    for prompt in PROMPTS
  ], words


def test_its_greedy_answers_are_those_of_transformers(loaded):
  import transformers

  directory, model, params = loaded
  asked, words = talk(directory)
  words.padding_side = "left"
  theirs = transformers.AutoModelForCausalLM.from_pretrained(directory).eval()
  inputs = words(asked, return_tensors="pt", padding=True, add_special_tokens=False)
  with torch.no_grad():
    said = theirs.generate(**inputs, do_sample=False, max_new_tokens=LENGTH).numpy()
  expected = said[:, inputs.input_ids.shape[1] :]
  tokens, mask = inputs.input_ids.numpy(), inputs.attention_mask.numpy().astype(bool)
  eos, pad = words.eos_token_id, words.pad_token_id
  sample = jax.jit(functools.partial(decode.sample, model, length=LENGTH, eos_id=eos, pad_id=pad))
  prompts = types.Prompts(tokens=tokens.astype(np.int32), mask=mask)
  responses = sample(params, prompts, jax.random.key(0), jnp.float32(0)).responses
  assert expected.shape == (10, LENGTH)
  np.testing.assert_array_equal(responses.tokens, expected)
  assert "Paris" in words.decode(expected[0])


def test_its_tokenizer_does_what_the_file_says(loaded):
  directory, *_ = loaded
  ours = text.load_tokenizer(smollm2.gguf_file())
  assert (ours.eos_id, ours.vocab_size) == (2, 49_152)
  ids = ours.encode("In 1984, it's naïve…\n\tx = y+1  ")
  assert ours.decode(ids) == "In 1984, it's naïve…\n\tx = y+1  "
  assert text.load_tokenizer(directory).fingerprint == ours.fingerprint


def test_its_chat_template_gives_the_ids_of_transformers(loaded):
  directory, *_ = loaded
  form, tokenizer = chat.choose(
    "auto", text.load_tokenizer(directory), template.Template(), "Again."
  )
  assert tokenizer.stop_ids == tuple(tokenizer.encode_form("<|im_end|>"))
  asked, words = talk(directory)
  ids = form.encode(tokenizer, form.formats["policy"].conversations(PROMPTS)).ids
  assert ids == words(asked, add_special_tokens=False).input_ids
  given = form.encode(tokenizer, form.formats["improver"].conversations(PROMPTS, PROMPTS[::-1])).ids
  for prompt, draft, row in zip(PROMPTS, PROMPTS[::-1], given, strict=True):
    said = zip(("user", "assistant", "user"), (prompt, draft, "Again."), strict=True)
    messages = [{"role": role, "content": content} for role, content in said]
    options = {"add_generation_prompt": True, "return_dict": False}
    assert row == words.apply_chat_template(messages, **options)


MEASURE = """
import json, pathlib, resource, sys
import jax, numpy as np
from pit_jax.exchange import families, hf
from pit_jax.models import pure

def peak():
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

directory = pathlib.Path(sys.argv[1])
model = pure.language_model(families.read(directory))
jax.block_until_ready(jax.device_put(np.zeros(8)))
before = peak()
params = jax.block_until_ready(hf.load(directory, model))
size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
print(json.dumps({"size": size, "peak": peak() - before}))
"""


def test_loading_takes_little_more_memory_than_the_model(loaded):
  done = subprocess.run(
    [sys.executable, "-c", MEASURE, loaded[0]], capture_output=True, text=True, check=True
  )
  found = json.loads(done.stdout.splitlines()[-1])
  assert found["size"] > 500e6
  assert found["peak"] <= 1.3 * found["size"]
