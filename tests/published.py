"""Directories of published models with random weights, for the tests."""

import json

import chats
import tiny

from pit_jax.exchange import hf
from pit_jax.models import architecture, pure
from pit_jax.tasks import synthetic

SHAPE = {"width": 16, "layers": 1, "heads": 2, "kv_heads": 1, "head_width": 8, "hidden": 16}
FOREIGN = {"width": 12, "layers": 2, "heads": 3, "head_width": 4, "hidden": 8, "qkv_bias": True}

TURNS = (
  "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
  "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def directory_of(place, make, words, seed=1, **changes):
  """Returns a model directory with random weights and the tokenizer."""
  model = make(architecture.ModelConfig(vocabulary=words.vocab_size, **(SHAPE | changes)))
  hf.save(place, model, tiny.parameters(model, seed), **words.special_ids)
  words.save(place)
  return place


def letters():
  return [row["prompt"] + row["chosen"] for row in synthetic.preferences(50, seed=1)]


def foreign(place):
  """Returns a reward model of another family, width and tokenizer than any run's models.

  It has a chat template of its own.
  """
  words = chats.save(place, "chatml", form=TURNS, texts=letters(), vocabulary=500)
  directory_of(place, pure.scalar_model, words, seed=3, **FOREIGN)
  assert json.loads((place / "config.json").read_text())["model_type"] == "qwen2"
  return place
