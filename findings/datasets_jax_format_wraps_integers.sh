#!/usr/bin/env bash
# datasets and JAX: `with_format("jax")` silently wraps integers beyond 32 bits
#
# Versions: datasets 5.2.0, jax 0.10.2, jaxlib 0.10.2, numpy 2.4.6 (Python 3.11). Seen 2026-11-28.
#
# A reader would expect: `with_format` changes the kind of array, not the
#   numbers; the documentation of JAX says that 64-bit types are narrowed by
#   default, and JAX itself raises an OverflowError for a Python integer too
#   large for its type. So an id that does not fit should raise, or warn.
#
# What happens: the same column that the torch and numpy formats return
#   unchanged comes back modulo 2**32: distinct ids become equal or negative,
#   for single rows and for batches, with no error or warning, although
#   `features` still says int64.
#
# Output:
#   datasets 5.2.0 jax 0.10.2 numpy 2.4.6
#   numpy format: [7, 4294967303, 2147483651] {'id': Value('int64')}
#   jax format, batch: [7, 7, -2147483645] int32 {'id': Value('int64')}
#   jax format, rows:  [7, 7, -2147483645]
#   jnp.asarray of the Python integer: OverflowError
#   with 64 bits enabled: [7, 4294967303, 2147483651] int64
#
# For users of preference and RLHF tooling: 64-bit example ids, hashes of
#   prompts, seeds and millisecond times are common in rollout logs. Joining
#   chosen and rejected answers by such an id after this format pairs answers
#   of different prompts. Keep ids as strings, or take them from the unformatted
#   set, or enable 64 bits in JAX before formatting.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export HF_HOME="$tmp/hf" HF_HUB_OFFLINE=1 JAX_PLATFORMS=cpu
python3.11 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --no-compile 'datasets==5.2.0' 'jax==0.10.2' 'jaxlib==0.10.2' 'numpy==2.4.6'
cd "$tmp"
"$tmp/venv/bin/python" - <<'EOF'
import warnings

import datasets
import jax
import jax.numpy as jnp
import numpy
from datasets import Dataset

print("datasets", datasets.__version__, "jax", jax.__version__, "numpy", numpy.__version__)
ids = [7, 2**32 + 7, 2**31 + 3]
data = Dataset.from_dict({"id": ids})
with warnings.catch_warnings():
    warnings.simplefilter("error")
    print("numpy format:", data.with_format("numpy")[:]["id"].tolist(), data.features)
    formatted = data.with_format("jax")
    batch = formatted[:]["id"]
    rows = [int(formatted[i]["id"]) for i in range(3)]
print("jax format, batch:", batch.tolist(), batch.dtype, formatted.features)
print("jax format, rows: ", rows)
assert data.with_format("numpy")[:]["id"].tolist() == ids
assert batch.tolist() == rows == [7, 7, 3 - 2**31]
try:
    jnp.asarray(2**32 + 7)
except OverflowError as error:
    print("jnp.asarray of the Python integer:", type(error).__name__)
else:
    raise SystemExit("no error from jnp.asarray")
jax.config.update("jax_enable_x64", True)
wide = data.with_format("jax")[:]["id"]
print("with 64 bits enabled:", wide.tolist(), wide.dtype)
assert wide.tolist() == ids
EOF
