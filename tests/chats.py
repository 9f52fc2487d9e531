"""Small tokenizers with the chat templates of well-known families, written down in short."""

import pathlib
from collections.abc import Sequence

import transformers
from tokenizers import processors

from pit_jax.data import gguf_text, text

WORDS = ["the letter to mia , please", "\n\nthe bill is 12 . rent 4\n", "naïve café 東京"] * 3

CHATML = (
  "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe of help.<|im_end|>\n{% endif %}"
  "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
  "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
  "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message['role'] }}"
  "<|end_header_id|>\n\n{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
  "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL = (
  "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != "
  "(loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
  "{% if message['role'] == 'user' %}[INST] {{ message['content'] }} [/INST]"
  "{% else %} {{ message['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
FORMS = {  # name → template, marks of its turns, beginning of text, end of text
  "chatml": (CHATML, ["<|im_start|>", "<|im_end|>"], None, "<|im_end|>"),
  "llama3": (
    LLAMA3,
    [
      "<|begin_of_text|>",
      "<|end_of_text|>",
      "<|start_header_id|>",
      "<|end_header_id|>",
      "<|eot_id|>",
    ],
    "<|begin_of_text|>",
    "<|end_of_text|>",
  ),
  "mistral": (MISTRAL, ["<s>", "</s>"], "<s>", "</s>"),
}


def save(
  directory: pathlib.Path,
  name: str,
  form: str | None = None,
  hidden: tuple[str, ...] = (),
  texts: Sequence[str] = WORDS,
  vocabulary: int = 300,
  adds_bos: bool = False,
) -> text.Tokenizer:
  """Writes a tokenizer with a chat template, its own or `form`, and opens it.

  Marks named in `hidden` are tokens that the file does not call special. If adds_bos, the tokenizer
  by itself begins a text as published ones of the family do.
  """
  own, marks, begins, ends = FORMS[name]
  text.train_tokenizer(texts, vocabulary, directory)
  learnt = transformers.PreTrainedTokenizerFast.from_pretrained(directory).backend_tokenizer
  if name == "llama3":
    splits = gguf_text.SPLITS["llama-bpe"]
    learnt.pre_tokenizer = gguf_text.tokenizers.pre_tokenizers.Sequence(splits)
  learnt.add_special_tokens([mark for mark in marks if mark not in hidden])
  learnt.add_tokens(list(hidden))
  if adds_bos:
    known = [(begins, learnt.token_to_id(begins))]
    begin = processors.TemplateProcessing(f"{begins} $A", f"{begins} $A $B", known)
    learnt.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), begin])
  fast = transformers.PreTrainedTokenizerFast(
    tokenizer_object=learnt, bos_token=begins, eos_token=ends, pad_token="<pad>"
  )
  fast.chat_template = form or own
  fast.save_pretrained(directory)
  return text.load_tokenizer(directory)


def spell(prompt) -> list[dict]:
  """Returns a conversation as messages."""
  return [{"role": role, "content": content} for role, content in prompt]
