#!/usr/bin/env bash
# peft: with some initialisations `disable_adapter` does not give the base model
#
# Versions: peft 0.21.2, transformers 5.24.0, torch 2.13.0 (Python 3.11). Seen 2026-11-28.
#
# A reader would expect: the docstring of `disable_adapter` says to use it for
#   inference on the base model, and `unload` is documented to give the base
#   model back without merging.
#
# What happens: init_lora_weights="pissa" and "olora" move a part of each base
#   weight into the adapter, so that the adapted model starts equal to the base
#   while the weights left underneath are another model. `disable_adapter` and
#   `unload` both give that other model, from before the first training step
#   on; no warning is given. True, "gaussian" and "orthogonal" are as expected.
#
# Output:
#   peft 0.21.2 transformers 5.24.0 torch 2.13.0
#   base: log-probability of a text -70.848
#   True: adapted -70.848, adapter disabled -70.848, unloaded -70.848
#   gaussian: adapted -70.848, adapter disabled -70.848, unloaded -70.848
#   orthogonal: adapted -70.848, adapter disabled -70.848, unloaded -70.848
#   pissa: adapted -70.848, adapter disabled -74.139, unloaded -74.139
#   olora: adapted -70.848, adapter disabled -76.143, unloaded -76.143
#
# For users of preference and RLHF tooling: DPO, KTO and PPO implementations
#   save memory by taking the adapted model with its adapter disabled as the
#   reference policy. With these initialisations the reference is a damaged
#   model: at step 0 the log-ratio, which should be 0, is not, and the KL
#   penalty pulls towards it. Load a separate reference model.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export HF_HOME="$tmp/hf" HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1
python3.11 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --no-compile 'transformers==5.24.0' 'peft==0.21.2' 'torch==2.13.0'
cd "$tmp"
"$tmp/venv/bin/python" - 2> "$tmp/log" <<'EOF' || { cat "$tmp/log" >&2; exit 1; }
import warnings

import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

print("peft", peft.__version__, "transformers", transformers.__version__, "torch", torch.__version__.split("+")[0])
config = LlamaConfig(
    vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, initializer_range=0.2
)
ids = torch.arange(3, 20)[None]


def model():
    torch.manual_seed(0)
    return LlamaForCausalLM(config).eval()


def of_text(policy):
    with torch.no_grad():
        logs = policy(ids).logits.log_softmax(-1)
    return float(logs[0, :-1].gather(1, ids[0, 1:, None]).sum())


base = of_text(model())
print(f"base: log-probability of a text {base:.3f}")
for kind in (True, "gaussian", "orthogonal", "pissa", "olora"):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        policy = get_peft_model(
            model(),
            LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj", "up_proj"], init_lora_weights=kind),
        ).eval()
        with policy.disable_adapter():
            off = of_text(policy)
    on, bare = of_text(policy), of_text(policy.unload())
    print(f"{kind}: adapted {on:.3f}, adapter disabled {off:.3f}, unloaded {bare:.3f}")
    assert abs(on - base) < 1e-3 and abs(off - bare) < 1e-3
    assert (abs(off - base) > 0.1) == (kind in ("pissa", "olora"))
EOF
