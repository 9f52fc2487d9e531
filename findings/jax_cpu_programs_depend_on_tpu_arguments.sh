#!/usr/bin/env bash
# JAX: programs kept for a CPU are not found once LIBTPU_INIT_ARGS has another value
#
# Versions: jax 0.10.2, jaxlib 0.10.2 (Python 3.11), no libtpu. Seen 2026-11-29.
#
# A reader would expect: LIBTPU_INIT_ARGS holds arguments of the TPU's runtime;
#   on a machine without a TPU, and with JAX_PLATFORMS=cpu, it decides nothing,
#   and the persistent compilation cache finds what an earlier start kept.
#
# What happens: what the variable holds is part of the key of every program,
#   whatever the platform. A start with another value, or without it, compiles
#   everything again and keeps all of it once more. Nothing says so.
#
# Output:
#   jax 0.10.2
#   first start, no arguments: 0 found
#   second start, no arguments: all found
#   third start, TPU arguments set: 0 found
#   files kept by the third as by the first: True
#
# For users of preference and RLHF tooling: a launcher that sets TPU arguments
#   and a notebook that does not share no program, on CPUs neither, though both
#   name one folder. Set the variable to the same value in both.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3.11 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'jax==0.10.2' 'jaxlib==0.10.2'
cd "$tmp"
cat > compile.py <<'EOF'
import collections
import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_COMPILATION_CACHE_DIR"] = "kept"
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
import jax
import jax.numpy as jnp

events = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: events.update([event.split("/")[-1]]))
jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((64, 64))).block_until_ready()
hits, misses = events["cache_hits"], events["cache_misses"]
print("all found" if hits and not misses else f"{hits} found")
EOF
count() { find kept -name '*-cache' | wc -l; }
unset LIBTPU_INIT_ARGS
"$tmp/venv/bin/python" -c 'import jax; print(f"jax {jax.__version__}")'
first=$("$tmp/venv/bin/python" compile.py)
before=$(count)
second=$("$tmp/venv/bin/python" compile.py)
third=$(LIBTPU_INIT_ARGS=--xla_tpu_scoped_vmem_limit_kib=32768 "$tmp/venv/bin/python" compile.py)
after=$(count)
same=$([ "$after" -eq $((2 * before)) ] && echo True || echo False)
echo "first start, no arguments: $first"
echo "second start, no arguments: $second"
echo "third start, TPU arguments set: $third"
echo "files kept by the third as by the first: $same"
test "$first" = "0 found"
test "$second" = "all found"
test "$third" = "0 found"
test "$same" = True
