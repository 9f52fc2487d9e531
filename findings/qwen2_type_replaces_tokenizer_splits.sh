#!/usr/bin/env bash
# transformers: a config.json of type qwen2 changes how the tokenizer.json beside it splits
#
# Versions: transformers 5.24.0, tokenizers 0.23.3 (Python 3.11). Seen 2026-11-28.
#
# A reader would expect: tokenizer.json is the complete description of a fast
#   tokenizer (normalizer, splits, merges), and tokenizer_config.json names the
#   class to load. A byte-level BPE trained by the user and saved beside a
#   small Qwen2 model should encode after `AutoTokenizer.from_pretrained` as it
#   did when it was trained.
#
# What happens: where config.json has model_type qwen2 the class Qwen2Tokenizer
#   is taken, in spite of the class that `save_pretrained` has named in
#   tokenizer_config.json; it takes the vocabulary and merges of the file and
#   puts Qwen's own splits (every digit alone) and an NFC normalizer in place
#   of the file's. " 2024", one token in training, becomes five. The same
#   folder with model_type llama or qwen3, or read by tokenizers.Tokenizer or
#   PreTrainedTokenizerFast, gives the file's own ids. Nothing is logged.
#
# Output:
#   transformers 5.24.0 tokenizers 0.23.3
#   as trained: ['in', 'Ġ2024']
#   model_type llama, class named TokenizersBackend: TokenizersBackend, ['in', 'Ġ2024']
#   model_type qwen3, class named TokenizersBackend: TokenizersBackend, ['in', 'Ġ2024']
#   model_type qwen2, class named TokenizersBackend: Qwen2Tokenizer, ['in', 'Ġ', '2', '0', '2', '4']
#   Tokenizer.from_file and PreTrainedTokenizerFast: as trained, in all three folders
#
# For users of preference and RLHF tooling: data tokenized by one reader and a
#   policy or judge served by another see different tokens for the same answer;
#   log-probabilities, lengths and length limits differ, most of all in answers
#   with numbers. Compare ids across readers once per model.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export HF_HOME="$tmp/hf" HF_HUB_OFFLINE=1
python3.11 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --no-compile 'transformers==5.24.0' 'tokenizers==0.23.3'
cd "$tmp"
"$tmp/venv/bin/python" - > "$tmp/out" 2> "$tmp/log" <<'EOF' || { cat "$tmp/out" "$tmp/log" >&2; exit 1; }
import json

import tokenizers
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

print("transformers", transformers.__version__, "tokenizers", tokenizers.__version__)
backend = Tokenizer(models.BPE())
backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
backend.decoder = decoders.ByteLevel()
trainer = trainers.BpeTrainer(
    vocab_size=400,
    special_tokens=["<|endoftext|>"],
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
)
backend.train_from_iterator(["in 2024 and in 2025"] * 20, trainer)
text = "in 2024"
own = backend.encode(text)
print("as trained:", own.tokens)
for kind in ("llama", "qwen3", "qwen2"):
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>").save_pretrained(kind)
    with open(f"{kind}/tokenizer_config.json") as file:
        settings = json.load(file)
    named = settings["tokenizer_class"]
    with open(f"{kind}/config.json", "w") as file:
        json.dump({"model_type": kind}, file)
    auto = AutoTokenizer.from_pretrained(kind)
    ids = auto(text).input_ids
    print(f"model_type {kind}, class named {named}: {type(auto).__name__}, {auto.convert_ids_to_tokens(ids)}")
    assert Tokenizer.from_file(f"{kind}/tokenizer.json").encode(text).ids == own.ids
    assert PreTrainedTokenizerFast.from_pretrained(kind)(text).input_ids == own.ids
    assert (ids == own.ids) == (kind != "qwen2")
    assert named == "TokenizersBackend"
    assert (type(auto).__name__ == "Qwen2Tokenizer") == (kind == "qwen2")
print("Tokenizer.from_file and PreTrainedTokenizerFast: as trained, in all three folders")
EOF
cat "$tmp/out"
if grep -i -E 'split|pre.?token|class' "$tmp/log"; then
    echo 'a message about it' >&2
    exit 1
fi
