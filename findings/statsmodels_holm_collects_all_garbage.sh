#!/usr/bin/env bash
# statsmodels: each call of multipletests(method="holm") runs a full garbage collection
#
# Versions: statsmodels 0.15.0, numpy 2.4.6, scipy 1.17.1 (Python 3.11). Seen 2026-11-28.
#
# A reader would expect: Holm's correction of a few p-values is a sort and a
#   product, microseconds, and costs what Holm-Sidak or Simes-Hochberg cost.
#   The docstring's section on timing names the sort as what takes the time
#   (and `hommel` as slow).
#
# What happens: method="holm", alone of those tried, ends in gc.collect(). One
#   call on five numbers walks every object of the process, so it costs more
#   the more is loaded: in a process that holds a million small lists, thousands
#   of times what "holm-sidak" takes. The figures returned are right.
#
# Output (times vary):
#   statsmodels 0.15.0 numpy 2.4.6 scipy 1.17.1
#   bonferroni      20 calls:  0 full collections,      0.4 ms
#   holm-sidak      20 calls:  0 full collections,      0.6 ms
#   simes-hochberg  20 calls:  0 full collections,      0.7 ms
#   holm            20 calls: 20 full collections,   4894.5 ms
#   holm: [0.04, 0.09, 0.09, 0.2, 0.025]
#
# For users of preference and RLHF tooling: a bootstrap or a table that
#   corrects p-values per resample, inside a process with torch, JAX or a data
#   set in memory, spends its time in the collector. scipy has no Holm; the
#   correction is three lines of NumPy.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3.11 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'statsmodels==0.15.0' 'numpy==2.4.6' 'scipy==1.17.1'
cd "$tmp"
"$tmp/venv/bin/python" - <<'EOF'
import gc
import time

import numpy as np
import scipy
import statsmodels
from statsmodels.stats.multitest import multipletests

print("statsmodels", statsmodels.__version__, "numpy", np.__version__, "scipy", scipy.__version__)
values = [0.01, 0.04, 0.03, 0.2, 0.005]
full = []
gc.callbacks.append(lambda phase, info: full.append(1) if (phase, info["generation"]) == ("start", 2) else None)
held = [[i] for i in range(1_000_000)]  # what else the process holds
CALLS = 20
seconds, collections = {}, {}
for method in ("bonferroni", "holm-sidak", "simes-hochberg", "holm"):
    multipletests(values, method=method)
    gc.collect()
    full.clear()
    began = time.perf_counter()
    for _ in range(CALLS):
        corrected = multipletests(values, method=method)[1]
    seconds[method], collections[method] = time.perf_counter() - began, len(full)
    print(f"{method:15} {CALLS} calls: {collections[method]:2} full collections, {1e3 * seconds[method]:8.1f} ms")
print("holm:", corrected.round(3).tolist())
assert collections == {"bonferroni": 0, "holm-sidak": 0, "simes-hochberg": 0, "holm": CALLS}
assert seconds["holm"] > 10 * seconds["holm-sidak"]
assert np.allclose(corrected, [0.04, 0.09, 0.09, 0.2, 0.025])
EOF
