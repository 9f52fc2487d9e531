#!/usr/bin/env bash
# transformers and peft: a pipeline on an adapter folder uses the base model's chat template
#
# Versions: transformers 5.24.0, peft 0.21.2, torch 2.13.0 (Python 3.11). Seen 2026-11-28.
#
# A reader would expect: `pipeline` is documented to load, where no tokenizer
#   is given and the model is a string, the default tokenizer for that model;
#   trainers save the tokenizer into the adapter folder with the template that
#   was trained, and `AutoTokenizer.from_pretrained` of the folder returns it.
#
# What happens: the adapter's weights are applied, but tokenizer and template
#   come from the base model's folder; those beside the adapter are not read
#   and nothing is said. With the same folder given by hand as the tokenizer,
#   the prompt is the trained one.
#
# Output:
#   transformers 5.24.0 peft 0.21.2 torch 2.13.0
#   model alone: tokenizer of 'base', 8 adapter weights
#     prompt 'the cat', answer 'sat sat cat ;'
#   tokenizer too: tokenizer of 'adapter', 8 adapter weights
#     prompt 'user : the cat ; assistant :', answer 'sat sat sat cat'
#
# For users of preference and RLHF tooling: the quickest way to try a trained
#   adapter shows it a prompt format that it was not trained on, often without
#   any roles, and it looks as if training had failed. Pass
#   tokenizer=ADAPTER_FOLDER as well.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export HF_HOME="$tmp/hf" HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1
python3.11 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --no-compile 'transformers==5.24.0' 'peft==0.21.2' 'torch==2.13.0' 'jinja2==3.1.6'
cd "$tmp"
"$tmp/venv/bin/python" - > "$tmp/out" 2> "$tmp/log" <<'EOF' || { cat "$tmp/log" >&2; exit 1; }
import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, pipeline

print("transformers", transformers.__version__, "peft", peft.__version__, "torch", torch.__version__.split("+")[0])
torch.manual_seed(0)
words = "user assistant the cat sat on a mat : ;"
backend = Tokenizer(models.WordLevel(unk_token="<unk>"))
backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
backend.train_from_iterator([words], trainers.WordLevelTrainer(special_tokens=["<pad>", "</s>", "<unk>"], show_progress=False))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
tokenizer.save_pretrained("base")
LlamaForCausalLM(
    LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        bos_token_id=None,
        initializer_range=0.5,
        eos_token_id=1,
        pad_token_id=0,
    )
).save_pretrained("base")

trained = get_peft_model(
    LlamaForCausalLM.from_pretrained("base"),
    LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False),
)
trained.save_pretrained("adapter")
tokenizer.chat_template = "{% for m in messages %}{{ m.role }} : {{ m.content }} ; {% endfor %}assistant :"
tokenizer.save_pretrained("adapter")

chat = [{"role": "user", "content": "the cat"}]
seen = {}
for name, options in (("model alone", {}), ("tokenizer too", {"tokenizer": "adapter"})):
    generate = pipeline("text-generation", model="adapter", device="cpu", **options)
    prompt = generate.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    adapted = sum("lora_" in key for key, _ in generate.model.named_parameters())
    answer = generate(chat, max_new_tokens=4, do_sample=False)[0]["generated_text"][-1]["content"]
    print(f"{name}: tokenizer of {generate.tokenizer.name_or_path!r}, {adapted} adapter weights")
    print(f"  prompt {prompt!r}, answer {answer!r}")
    seen[name] = (generate.tokenizer.name_or_path, adapted, prompt)
own = AutoTokenizer.from_pretrained("adapter").apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
assert own == "user : the cat ; assistant :"
assert seen["model alone"] == ("base", 8, "the cat")
assert seen["tokenizer too"] == ("adapter", 8, own)
EOF
cat "$tmp/out"
if grep -i -E 'tokenizer|template' "$tmp/log"; then
    echo 'a message about it' >&2
    exit 1
fi
