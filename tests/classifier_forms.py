"""Classifiers of every family as their publishers leave them: tokenizer, template, config.json.

The templates are written anew after what the families' own ones render.
"""

import chats
import test_parity
import transformers
from tokenizers import pre_tokenizers, processors

from pit_jax.data import gguf_text, text

OPEN, CLOSE = "<|im_start|>", "<|im_end|>"
END = "<|endoftext|>"

SYSTEM_FIRST = (
  "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are a helpful assistant."
  "<|im_end|>\n{% endif %}"
)
TURNS = (
  "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
  "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# The answer to the last question has a block for thoughts, empty where it holds none; the thoughts
# of earlier answers are left out.
QWEN3 = """
{%- set ns = namespace(last=0) -%}
{%- for m in messages if m.role == 'user' %}{% set ns.last = messages.index(m) %}{% endfor -%}
{%- for m in messages -%}
  {%- if m.role == 'assistant' -%}
    {%- set thoughts = '' -%}{%- set content = m.content -%}
    {%- if '</think>' in content -%}
      {%- set thoughts = content.split('</think>')[0].split('<think>')[-1].strip('\\n') -%}
      {%- set content = content.split('</think>')[-1].lstrip('\\n') -%}
    {%- endif -%}
    {{- '<|im_start|>assistant\\n' -}}
    {%- if loop.index0 > ns.last -%}
      {{- '<think>\\n' + thoughts + '\\n</think>\\n\\n' -}}
    {%- endif -%}
    {{- content + '<|im_end|>\\n' -}}
  {%- else -%}
    {{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif -%}
"""
GEMMA2 = (
  "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}"
  "{% endif %}{% for m in messages %}<start_of_turn>"
  "{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
  "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
GEMMA3 = (
  "{{ bos_token }}{% set said = '' %}{% set talk = messages %}"
  "{% if messages[0].role == 'system' %}{% set said = messages[0].content + '\n\n' %}"
  "{% set talk = messages[1:] %}{% endif %}{% for m in talk %}<start_of_turn>"
  "{{ 'model' if m.role == 'assistant' else m.role }}\n{% if loop.first %}{{ said }}{% endif %}"
  "{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
  "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
GEMMAS = ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"]
# Family → case of test_parity, template, marks, beginning and end of a text, and of a turn.
FAMILIES = {
  "llama": ("llama", chats.LLAMA3, chats.FORMS["llama3"][1], "<|begin_of_text|>", "<|eot_id|>"),
  "smollm2": ("llama, three heads, wide", SYSTEM_FIRST + TURNS, [OPEN, CLOSE, END], None, CLOSE),
  "mistral": ("mistral", chats.MISTRAL, ["<s>", "</s>"], "<s>", "</s>"),
  "qwen2": ("qwen2", SYSTEM_FIRST + TURNS, [OPEN, CLOSE, END], None, CLOSE),
  "qwen3": ("qwen3", QWEN3, [OPEN, CLOSE, END], None, CLOSE),
  "gemma2": ("gemma2", GEMMA2, GEMMAS, "<bos>", "<eos>"),
  "gemma3_text": ("gemma3_text", GEMMA3, GEMMAS, "<bos>", "<eos>"),
}
SPLITS = {"llama": "llama-bpe", "qwen2": "qwen2", "qwen3": "qwen2"}
THOUGHTS = ["<think>", "</think>"]  # tokens that Qwen 3's file does not call special
TEXTS = [*chats.WORDS, "user assistant system model helpful who calls Ann? Mia does ."] * 3


def words(family: str) -> transformers.PreTrainedTokenizerFast:
  """Returns a family's tokenizer, which by itself begins a text where the family's does."""
  _, form, marks, begins, ends = FAMILIES[family]
  rust = _learnt()
  if splits := SPLITS.get(family[:5]):  # AutoTokenizer would put them there
    rust.pre_tokenizer = pre_tokenizers.Sequence(gguf_text.SPLITS[splits])
  rust.add_special_tokens(list(marks))
  if family == "qwen3":
    rust.add_tokens(THOUGHTS)
  if begins:
    known = [(begins, rust.token_to_id(begins))]
    rust.post_processor = processors.TemplateProcessing(f"{begins} $A", f"{begins} $A $B", known)
  pad = "<pad>" if begins else END
  fast = transformers.PreTrainedTokenizerFast(
    tokenizer_object=rust, bos_token=begins, eos_token=ends, pad_token=pad
  )
  fast.chat_template = form
  return fast


def _learnt():
  import tempfile

  with tempfile.TemporaryDirectory() as folder:
    text.train_tokenizer(TEXTS, 330, folder)
    return transformers.PreTrainedTokenizerFast.from_pretrained(folder).backend_tokenizer


def save(place, family: str, pad: str | None):
  """Writes a family's classifier with random weights.

  Args:
    place: the directory.
    family: of FAMILIES.
    pad: what config.json calls padding: None, or a token.
  """
  fast = words(family)
  fast.pad_token = pad or fast.pad_token
  changes = test_parity.CASES[FAMILIES[family][0]] | {"vocabulary": len(fast)}
  network = test_parity.reference(test_parity.tiny.config(**changes), seed=7, scalar=True)
  network.config.pad_token_id = pad and fast.convert_tokens_to_ids(pad)
  network.save_pretrained(place)
  fast.save_pretrained(place)
  return place
