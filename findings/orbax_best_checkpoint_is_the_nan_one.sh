#!/usr/bin/env bash
# orbax-checkpoint: a NaN metric can be the best, and the best one is deleted
#
# Versions: orbax-checkpoint 0.12.8, jax 0.10.2, jaxlib 0.10.2 (Python 3.11). Seen 2026-11-28.
#
# A reader would expect: `best_fn` with `max_to_keep` is documented to keep
#   checkpoints by the quality of their metrics, and `best_step()` to return
#   the best of them. A NaN compares as no better than any number, so a
#   checkpoint with it should rank last in both modes (or be refused).
#
# What happens: the metrics are put in order by Python's `sorted`, for which a
#   NaN is neither smaller nor larger, so its place is a matter of when it was
#   saved. Saved last, it is `best_step()` in 'min' and 'max' mode, and with
#   max_to_keep=1 the true best is deleted for it. Saved in the middle, it
#   parts the list: a worse later checkpoint can push out the earlier best.
#   Every `save` returns True and nothing warns.
#
# Output:
#   orbax-checkpoint 0.12.8 jax 0.10.2
#   min of [1.0, 2.0, 3.0], max_to_keep=1: kept [0], best_step 0
#   min of [1.0, 2.0, nan], max_to_keep=1: kept [2], best_step 2
#   max of [3.0, 2.0, nan], max_to_keep=1: kept [2], best_step 2
#   min of [1.0, 2.0, nan], max_to_keep=None: kept [0, 1, 2], best_step 2
#   min of [1.0, nan, 2.0, 3.0], max_to_keep=1: kept [2], best_step 2
#   min of [1.0, 2.0, nan], max_to_keep=1: kept [0], best_step 0
#
# For users of preference and RLHF tooling: an evaluation that divides by
#   nothing (no answer parsed, an empty held-out part) or a diverged loss gives
#   NaN once; the run then resumes or ships the wrong weights and has lost the
#   right ones. Map NaN to an infinity of the bad sign inside `best_fn`.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export JAX_PLATFORMS=cpu
python3.11 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --no-compile 'orbax-checkpoint==0.12.8' 'jax==0.10.2' 'jaxlib==0.10.2'
cd "$tmp"
"$tmp/venv/bin/python" - 2> "$tmp/log" <<'EOF' || { cat "$tmp/log" >&2; exit 1; }
import math
import os
import tempfile

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

print("orbax-checkpoint", ocp.__version__, "jax", jax.__version__)
nan = math.nan


def run(values, mode, keep, best_fn=lambda metrics: metrics["score"]):
    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep, best_fn=best_fn, best_mode=mode, enable_async_checkpointing=False
    )
    with ocp.CheckpointManager(tempfile.mkdtemp(dir=os.getcwd()), options=options) as manager:
        for step, value in enumerate(values):
            assert manager.save(step, args=ocp.args.StandardSave({"w": jnp.ones(2)}), metrics={"score": value})
        kept, best = list(manager.all_steps()), manager.best_step()
    print(f"{mode} of {values}, max_to_keep={keep}: kept {kept}, best_step {best}")
    return kept, best


assert run([1.0, 2.0, 3.0], "min", 1) == ([0], 0)
assert run([1.0, 2.0, nan], "min", 1) == ([2], 2)
assert run([3.0, 2.0, nan], "max", 1) == ([2], 2)
assert run([1.0, 2.0, nan], "min", None) == ([0, 1, 2], 2)
kept, best = run([1.0, nan, 2.0, 3.0], "min", 1)
assert 0 not in kept and best != 0
kept, best = run([1.0, 2.0, nan], "min", 1, lambda metrics: math.inf if math.isnan(metrics["score"]) else metrics["score"])
assert (kept, best) == ([0], 0)
EOF
