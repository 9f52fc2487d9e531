"""Files that Git LFS did not fetch are named as such wherever files are opened."""

import json

import pytest
import tiny

from pit_jax import lfs
from pit_jax.data import preferences, text
from pit_jax.exchange import gguf, hf, peft
from pit_jax.models import architecture

POINTER = f"""version https://git-lfs.github.com/spec/v1
oid sha256:{"0" * 64}
size 132
"""
OPENED = {  # file → what opens it
  "rows.jsonl": lambda path: preferences.load(f"jsonl:{path}"),
  "rows.jsonl.gz": lambda path: preferences.load(f"hh:{path}"),
  "rows.parquet": lambda path: preferences.load(f"parquet:{path}"),
  "rows.json": lambda path: preferences.load(f"hf:{path}"),
  "train.parquet": lambda path: preferences.load(f"hf:{path.parent}"),
  "tokenizer.json": lambda path: text.load_tokenizer(path.parent),
  "tokenizer.model": lambda path: text.load_tokenizer(path.parent),
  "words.gguf": text.load_tokenizer,
  "questions.jsonl": lfs.opened,  # as launch/improve.py does
  "model.gguf": gguf.File,
  "model.safetensors": lambda path: hf.load(path.parent, tiny.language()),
  "adapter_config.json": lambda path: peft.read(path.parent),
  "adapter_model.safetensors": lambda path: peft.load(path.parent, _adapted()),
}


def _adapted():
  return tiny.language(adapter=architecture.Adapter(2, 4.0, ("query",)))


@pytest.mark.parametrize("name", OPENED)
def test_a_pointer_is_named_and_nothing_else_is_said(tmp_path, name):
  (tmp_path / "config.json").write_text(json.dumps({}))
  path = tmp_path / name
  path.write_text(POINTER)
  with pytest.raises(ValueError, match=rf"{name} is a Git LFS pointer .* `git lfs pull`"):
    OPENED[name](path)


def test_pointers_beside_what_is_opened_do_no_harm(tmp_path):
  (tmp_path / "model.safetensors").write_text(POINTER)
  text.train_tokenizer(["a b"], 258, tmp_path)
  assert text.load_tokenizer(tmp_path).vocab_size == 258
