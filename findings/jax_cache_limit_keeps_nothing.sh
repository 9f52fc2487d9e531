#!/usr/bin/env bash
# JAX: a size limit of the compilation cache keeps no program at all on a plain installation
#
# Versions: jax 0.10.2, jaxlib 0.10.2 (Python 3.11). Seen 2026-11-28.
#
# A reader would expect: `jax_compilation_cache_max_size` bounds the folder of
#   the persistent cache; below the bound the same programs are kept as without
#   it. If something is missing for that, setting the option says so.
#
# What happens: eviction wants the package `filelock`, which jax neither
#   requires nor names in an extra. Without it the option is accepted, the
#   folder is made and stays empty, and every program is compiled again at every
#   start. The one sign is a UserWarning about "reading" an entry of the first
#   small program, once per process; results and exit status are as ever.
#
# Output:
#   jax 0.10.2; filelock installed: False
#   no limit: 4 programs kept, warned: False
#   limit of 100 MB: 0 programs kept, warned: True
#   limit of 100 MB, with filelock: 4 programs kept, warned: False
#
# For users of preference and RLHF tooling: a bounded cache shared by the runs
#   of a sweep, or by pods that come back, does nothing in a lean image, and
#   costs the minutes that it was meant to save. Install filelock beside jax.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3.11 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'jax==0.10.2' 'jaxlib==0.10.2'
cd "$tmp"
cat > compile.py <<'EOF'
import os
import sys
import warnings

folder, limit = sys.argv[1:]
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] = limit
import jax
import jax.numpy as jnp

with warnings.catch_warnings(record=True) as caught:
  warnings.simplefilter("always")
  jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((64, 64))).sum().block_until_ready()
kept = [name for name in os.listdir(folder) if name.endswith("-cache")]
said = any("filelock" in str(one.message) for one in caught)
print(f"{len(kept)} programs kept, warned: {said}")
EOF
"$tmp/venv/bin/python" -c '
import importlib.util, jax
found = importlib.util.find_spec("filelock") is not None
print(f"jax {jax.__version__}; filelock installed: {found}")'
free=$("$tmp/venv/bin/python" compile.py "$tmp/free" -1)
bounded=$("$tmp/venv/bin/python" compile.py "$tmp/bounded" 100000000)
"$tmp/venv/bin/pip" install -q 'filelock==3.20.0'
mended=$("$tmp/venv/bin/python" compile.py "$tmp/mended" 100000000)
echo "no limit: $free"
echo "limit of 100 MB: $bounded"
echo "limit of 100 MB, with filelock: $mended"
test "$bounded" = "0 programs kept, warned: True"
test "$free" = "$mended"
test "$free" != "0 programs kept, warned: False"
