#!/usr/bin/env bash
# optax: `inject_hyperparams` on bfloat16 parameters makes Adam return NaN at once
#
# Versions: optax 0.2.8, jax 0.10.2, jaxlib 0.10.2 (Python 3.11). Seen 2026-11-28.
#
# A reader would expect: `inject_hyperparams` is documented as a wrapper that
#   makes hyperparameters part of the state, with `hyperparam_dtype` as an
#   optional override that casts them if given; left out, the wrapped optimizer
#   should do what the bare one does with the same numbers.
#
# What happens: left out, every float is cast to the widest dtype found among
#   the parameters. With all of them bfloat16 the ordinary b2 = 0.999 is
#   rounded to exactly 1.0 (the neighbour below is 0.99609375), so the second
#   moment stays 0, its bias correction divides 0 by 0, and the first update is
#   all NaN; b1 = 0.9 becomes 0.8984375. The bare `optax.adamw` steps normally
#   on the same parameters, and so does the wrapped one as soon as a single
#   parameter (a norm scale, say) is float32, or with hyperparam_dtype=float32.
#
# Output:
#   optax 0.2.8 jax 0.10.2
#   adamw, bfloat16: update of w [-0.00099945068359375, -0.00099945068359375, -0.00099945068359375] {}
#   injected, bfloat16: update of w [nan, nan, nan] {'b1': 0.8984375, 'b2': 1.0}
#   injected with a schedule, bfloat16: update of w [nan, nan, nan] {'b1': 0.8984375, 'b2': 1.0}
#   injected, one float32 beside: update of w [-0.001000588177703321, -0.001000588177703321,
#       -0.001000588177703321] {'b1': 0.8999999761581421, 'b2': 0.9990000128746033}
#   injected, hyperparam_dtype float32: update of w [-0.001000588177703321, -0.001000588177703321,
#       -0.001000588177703321] {'b1': 0.8999999761581421, 'b2': 0.9990000128746033}
#
# For users of preference and RLHF tooling: fine-tuning a policy held in
#   bfloat16 with a learning rate set from outside (the usual reason for this
#   wrapper: a controller of the KL divergence, sweeps) destroys the weights
#   in one step. Pass hyperparam_dtype=jnp.float32.
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
low = {"w": jnp.ones(3, jnp.bfloat16)}
mixed = low | {"scale": jnp.ones(3, jnp.float32)}


def first(name, optimizer, params):
    state = optimizer.init(params)
    grads = jax.tree.map(lambda p: jnp.full_like(p, 0.1), params)
    updates, state = optimizer.update(grads, state, params)
    numbers = getattr(state, "hyperparams", None)
    told = {k: float(numbers[k]) for k in ("b1", "b2")} if numbers else {}
    print(f"{name}: update of w {updates['w'].tolist()}", told)
    return updates["w"], told


wrapped = optax.inject_hyperparams(optax.adamw)
plain, _ = first("adamw, bfloat16", optax.adamw(1e-3), low)
broken, told = first("injected, bfloat16", wrapped(learning_rate=1e-3), low)
scheduled, _ = first("injected with a schedule, bfloat16", wrapped(learning_rate=optax.constant_schedule(1e-3)), low)
beside, _ = first("injected, one float32 beside", wrapped(learning_rate=1e-3), mixed)
given, _ = first(
    "injected, hyperparam_dtype float32",
    optax.inject_hyperparams(optax.adamw, hyperparam_dtype=jnp.float32)(learning_rate=1e-3),
    low,
)
assert jnp.isfinite(plain).all() and jnp.isfinite(beside).all() and jnp.isfinite(given).all()
assert told == {"b1": 0.8984375, "b2": 1.0}
assert jnp.isnan(broken).all() and jnp.isnan(scheduled).all()
EOF
