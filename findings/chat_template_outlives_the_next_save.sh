#!/usr/bin/env bash
# transformers: after a save into the same folder the older chat template is still loaded
#
# Versions: transformers 5.24.0, tokenizers 0.23.3, jinja2 3.1.6 (Python 3.11). Seen 2026-11-28.
#
# A reader would expect: `save_pretrained` is documented to make sure that the
#   full tokenizer can be loaded again with `from_pretrained`; saving over an
#   earlier save should leave the later tokenizer's templates.
#
# What happens: template files of the earlier save are neither overwritten nor
#   removed where the later save has no file of that name, and files win over
#   tokenizer_config.json:
#   - saved with save_jinja_files=False (the template goes into
#     tokenizer_config.json, and is there), the old chat_template.jinja is used;
#   - saved after the template was taken away (None), the old one is back;
#   - a named template that was dropped is still offered;
#   - a folder with the default template in tokenizer_config.json loses it if
#     one named template lies in additional_chat_templates/: then
#     `apply_chat_template` raises an error that there is no default.
#
# Output:
#   transformers 5.24.0 tokenizers 0.23.3
#   saved again as NEW, in the configuration: NEW {{ messages[0].content }}
#     rendered: OLD hello
#   saved again without a template: OLD {{ messages[0].content }}
#   saved again with one template of two: {'default': 'ONE', 'rag': 'TWO'}
#   default in the configuration: DEFAULT hello
#     and a named one in a file: {'rag': 'RAG'}
#     rendered: This model has multiple chat templates with no default specified
#
# For users of preference and RLHF tooling: a run that changes the template and
#   saves into the checkpoint folder again trains with one format and is
#   evaluated with the other; the score drops and the configuration file looks
#   right. Delete chat_template.jinja and additional_chat_templates/ first.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export HF_HOME="$tmp/hf" HF_HUB_OFFLINE=1
python3.11 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --no-compile 'transformers==5.24.0' 'tokenizers==0.23.3' 'jinja2==3.1.6'
cd "$tmp"
"$tmp/venv/bin/python" - 2> "$tmp/log" <<'EOF' || { cat "$tmp/log" >&2; exit 1; }
import json
import os

import tokenizers
import transformers
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

print("transformers", transformers.__version__, "tokenizers", tokenizers.__version__)
backend = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
chat = [{"role": "user", "content": "hello"}]


def save(folder, template, **options):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder, **options)


def load(folder):
    return AutoTokenizer.from_pretrained(folder)


def inline(folder):
    with open(f"{folder}/tokenizer_config.json") as file:
        return json.load(file).get("chat_template")


save("a", "OLD {{ messages[0].content }}")
save("a", "NEW {{ messages[0].content }}", save_jinja_files=False)
text = load("a").apply_chat_template(chat, tokenize=False)
print("saved again as NEW, in the configuration:", inline("a"))
print("  rendered:", text)
assert inline("a").startswith("NEW") and text == "OLD hello"

save("b", "OLD {{ messages[0].content }}")
save("b", None)
print("saved again without a template:", load("b").chat_template)
assert load("b").chat_template.startswith("OLD")

save("c", {"default": "ONE", "rag": "TWO"})
save("c", "ONE")
print("saved again with one template of two:", load("c").chat_template)
assert load("c").chat_template == {"default": "ONE", "rag": "TWO"}

save("d", "DEFAULT {{ messages[0].content }}", save_jinja_files=False)
print("default in the configuration:", load("d").apply_chat_template(chat, tokenize=False))
os.mkdir("d/additional_chat_templates")
with open("d/additional_chat_templates/rag.jinja", "w") as file:
    file.write("RAG")
print("  and a named one in a file:", load("d").chat_template)
try:
    load("d").apply_chat_template(chat, tokenize=False)
except ValueError as error:
    print("  rendered:", str(error).split("!")[0])
else:
    raise SystemExit("the default is still found")
EOF
