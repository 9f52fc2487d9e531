#!/usr/bin/env bash
# optax: clipping float16 gradients by their norm turns them all into zeros
#
# Versions: optax 0.2.8, jax 0.10.2, jaxlib 0.10.2 (Python 3.11). Seen 2026-11-28.
#
# A reader would expect: `clip_by_global_norm(1.0)` is documented to scale the
#   updates down to the given norm where theirs is larger; the result has norm
#   1 and the same direction. The norm here is about 300, well inside float16.
#
# What happens: the squares are summed in the dtype of the gradients. 300
#   squared is past 65504, the largest float16, so `global_norm` is infinite
#   and every update is multiplied by 0: all zeros, finite, no sign of it.
#   `apply_if_finite` lets them pass and counts no error. At the other end,
#   gradients of 1e-4 have a `global_norm` of exactly 0. bfloat16 and float32
#   are as expected.
#
# Output:
#   optax 0.2.8 jax 0.10.2
#   float32: norm 301.5, clipped step [-0.995, -0.0995, -0.00995], not finite 0, norm of three 1e-4
#       0.000173
#   bfloat16: norm 302, clipped step [-0.992, -0.0991, -0.00995], not finite 0, norm of three 1e-4
#       0.000174
#   float16: norm inf, clipped step [-0.0, -0.0, -0.0], not finite 0, norm of three 1e-4 0
#
# For users of preference and RLHF tooling: with float16 training and a loss
#   scale (which makes gradients large on purpose) the policy stops learning
#   without a NaN, and the logged norm of small gradients is 0. Cast the
#   gradients to float32 before clipping.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export JAX_PLATFORMS=cpu
python3.11 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --no-compile 'optax==0.2.8' 'jax==0.10.2' 'jaxlib==0.10.2'
cd "$tmp"
"$tmp/venv/bin/python" - <<'EOF'
import jax
import jax.numpy as jnp
import optax

print("optax", optax.__version__, "jax", jax.__version__)
optimizer = optax.apply_if_finite(optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(1.0)), 3)
seen = {}
for dtype in ("float32", "bfloat16", "float16"):
    grads = {"w": jnp.array([300.0, 30.0, 3.0], dtype)}
    updates, state = optimizer.update(grads, optimizer.init(grads))
    small = optax.global_norm({"w": jnp.full(3, 1e-4, dtype)})
    seen[dtype] = (float(optax.global_norm(grads)), updates["w"].tolist(), int(state.total_notfinite), float(small))
    print(
        f"{dtype}: norm {seen[dtype][0]:.4g}, clipped step {[float(f'{u:.3g}') for u in seen[dtype][1]]},",
        f"not finite {seen[dtype][2]}, norm of three 1e-4 {seen[dtype][3]:.3g}",
    )
norm, step, bad, small = seen["float16"]
assert norm == float("inf") and not any(step) and bad == 0 and small == 0
for dtype in ("float32", "bfloat16"):
    norm, step, bad, small = seen[dtype]
    assert 298 < norm < 305 and -1.01 < step[0] < -0.98 and bad == 0 and 1.7e-4 < small < 1.8e-4
EOF
