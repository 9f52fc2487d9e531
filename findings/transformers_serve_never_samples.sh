#!/usr/bin/env bash
# transformers serve and the openai client: temperature, n and logprobs are taken and not obeyed
#
# Versions: transformers 5.24.0, openai 3.57.0, torch 2.13.0, fastapi 0.165.0, uvicorn 0.54.0
#   (Python 3.11). Seen 2026-11-28.
#
# A reader would expect: the server is documented to offer compatibility with
#   the OpenAI client. There a temperature above 0 means sampling, `n` the
#   number of answers and `logprobs` their log-probabilities; a field that is not
#   supported is refused (the server does refuse unknown fields, with status
#   422).
#
# What happens, for a model whose generation configuration does not itself ask
#   for sampling: the temperature is stored and sampling stays off, so every
#   answer is the greedy one at any temperature and seed; n=4 gives one
#   answer and logprobs=True gives none, with status 200. Sampling needs a
#   generation_config with do_sample, sent as a text of JSON.
#
# Output:
#   transformers 5.24.0 openai 3.57.0 torch 2.13.0 fastapi 0.165.0 uvicorn 0.54.0
#   temperature 0: w37 w34 w57 w40 w49 w58
#   temperature 2, five seeds: {'w37 w34 w57 w40 w49 w58'}
#   do_sample in generation_config, five seeds: 5 different answers
#   n=4, logprobs: answers 1 logprobs None
#   do_sample as a field: 422 {'detail': "Unexpected fields in the request: {'do_sample'}"}
#
# For users of preference and RLHF tooling: candidates drawn for a preference
#   pair, best-of-n or self-consistency are all the same text, so pairs are
#   ties and agreement is perfect; judges that read log-probabilities find
#   None. Check once that two answers at a high temperature differ.
set -euo pipefail
tmp=$(mktemp -d)
server=
stop() {
    if [ -n "$server" ]; then
        kill "$server" 2> /dev/null || true
        wait "$server" 2> /dev/null || true
    fi
    rm -rf "$tmp"
}
trap stop EXIT
export HF_HOME="$tmp/hf" HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1
python3.11 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --no-compile 'transformers[serving]==5.24.0' 'openai==3.57.0' 'torch==2.13.0' \
    'fastapi==0.165.0' 'uvicorn==0.54.0'
cd "$tmp"
"$tmp/venv/bin/python" - 2> "$tmp/log" <<'EOF' || { cat "$tmp/log" >&2; exit 1; }
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

torch.manual_seed(0)
words = [f"w{i}" for i in range(60)]
backend = Tokenizer(models.WordLevel(unk_token="<unk>"))
backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
backend.train_from_iterator(words, trainers.WordLevelTrainer(special_tokens=["<pad>", "</s>", "<unk>"], show_progress=False))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
tokenizer.chat_template = "{% for m in messages %}{{ m.content }} {% endfor %}"
tokenizer.save_pretrained("model")
LlamaForCausalLM(
    LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
).save_pretrained("model")
EOF
port=$("$tmp/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$tmp/venv/bin/transformers" serve "$tmp/model" --host 127.0.0.1 --port "$port" --device cpu > "$tmp/server" 2>&1 &
server=$!
"$tmp/venv/bin/python" - "$port" "$tmp/model" 2> "$tmp/log" <<'EOF' || { cat "$tmp/log" "$tmp/server" >&2; exit 1; }
import importlib.metadata
import json
import sys
import time

import openai

for name in ("transformers", "openai", "torch", "fastapi", "uvicorn"):
    print(name, importlib.metadata.version(name).split("+")[0], end="\n" if name == "uvicorn" else " ")
port, model = sys.argv[1:]
client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=300)


def ask(**options):
    return client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "w1 w2 w3"}], max_tokens=6, **options
    )


for attempt in range(600):
    try:
        greedy = ask(temperature=0).choices[0].message.content
        break
    except openai.APIConnectionError:
        time.sleep(1)
print("temperature 0:", greedy)
hot = {ask(temperature=2.0, seed=seed).choices[0].message.content for seed in range(5)}
print("temperature 2, five seeds:", hot)
sampling = json.dumps({"do_sample": True, "temperature": 2.0, "max_new_tokens": 6})
drawn = {ask(extra_body={"generation_config": sampling}, seed=seed).choices[0].message.content for seed in range(5)}
print("do_sample in generation_config, five seeds:", len(drawn), "different answers")
several = ask(temperature=1.0, n=4, logprobs=True, top_logprobs=3)
print("n=4, logprobs: answers", len(several.choices), "logprobs", several.choices[0].logprobs)
try:
    ask(extra_body={"do_sample": True})
except openai.UnprocessableEntityError as error:
    print("do_sample as a field:", error.status_code, error.body)
else:
    raise SystemExit("an unknown field is taken")
assert hot == {greedy} and len(drawn) > 1
assert len(several.choices) == 1 and several.choices[0].logprobs is None
EOF
