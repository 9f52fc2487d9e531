#!/usr/bin/env bash
# transformers and tokenizers: one call with truncation is saved into tokenizer.json for good
#
# Versions: transformers 5.24.0, tokenizers 0.23.3 (Python 3.11). Seen 2026-11-28.
#
# A reader would expect: `truncation`, `padding` and `max_length` are arguments
#   of one call. The docstring of `set_truncation_and_padding` in transformers
#   says that the tokenizer's settings are restored afterwards, and
#   `save_pretrained` should write the tokenizer, not the last call's options.
#
# What happens: the settings of the last call stay on the backend tokenizer,
#   and `save_pretrained` writes them into tokenizer.json. Transformers undoes
#   them on each of its own calls, so its users see nothing; every reader of
#   the same file by the tokenizers library itself cuts each text to that
#   length and pads to it, with no word about it.
#
# Output:
#   transformers 5.24.0 tokenizers 0.23.3
#   before: in the file, truncation to None, padding None
#     ids of 'the cat sat on the mat': AutoTokenizer 6, tokenizers 6; of 'mat': tokenizers 1
#   after: in the file, truncation to 3, padding {'Fixed': 3}
#     ids of 'the cat sat on the mat': AutoTokenizer 6, tokenizers 3; of 'mat': tokenizers 3
#   after_another_call: in the file, truncation to None, padding None
#     ids of 'the cat sat on the mat': AutoTokenizer 6, tokenizers 6; of 'mat': tokenizers 1
#
# For users of preference and RLHF tooling: a trainer that tokenizes prompts
#   with max_length and then saves the tokenizer beside its checkpoint ships a
#   file with which other readers (JAX or Rust code on the tokenizers library)
#   score only the first few tokens of every answer: chosen and rejected with
#   the same start become equal. Call `backend_tokenizer.no_truncation()` and
#   `no_padding()` before saving, or after loading.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export HF_HOME="$tmp/hf" HF_HUB_OFFLINE=1
python3.11 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --no-compile 'transformers==5.24.0' 'tokenizers==0.23.3'
cd "$tmp"
"$tmp/venv/bin/python" - 2> "$tmp/log" <<'EOF' || { cat "$tmp/log" >&2; exit 1; }
import json

import tokenizers
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

print("transformers", transformers.__version__, "tokenizers", tokenizers.__version__)
text = "the cat sat on the mat"
backend = Tokenizer(models.WordLevel(unk_token="<unk>"))
backend.pre_tokenizer = pre_tokenizers.Whitespace()
backend.train_from_iterator([text], trainers.WordLevelTrainer(special_tokens=["<pad>", "<unk>"], show_progress=False))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>")


def look(name):
    tokenizer.save_pretrained(name)
    with open(f"{name}/tokenizer.json") as file:
        saved = json.load(file)
    limit = saved["truncation"] and saved["truncation"]["max_length"]
    strategy = saved["padding"] and saved["padding"]["strategy"]
    ids = [
        len(tokenizer(text).input_ids) if name == "before" else None,
        len(AutoTokenizer.from_pretrained(name)(text).input_ids),
        len(Tokenizer.from_file(f"{name}/tokenizer.json").encode(text).ids),
        len(Tokenizer.from_file(f"{name}/tokenizer.json").encode("mat").ids),
    ]
    print(f"{name}: in the file, truncation to {limit}, padding {strategy}")
    print(f"  ids of {text!r}: AutoTokenizer {ids[1]}, tokenizers {ids[2]}; of 'mat': tokenizers {ids[3]}")
    return limit, ids[1:]


assert look("before") == (None, [6, 6, 1])
tokenizer([text, "the mat"], truncation=True, max_length=3, padding="max_length")
assert look("after") == (3, [6, 3, 3])
tokenizer(text)
assert look("after_another_call") == (None, [6, 6, 1])
EOF
