#!/usr/bin/env bash
# evalica: one model that never lost wipes out the Bradley-Terry scores of all
#
# Versions: evalica 0.4.2, numpy 2.4.6, pandas 3.1.1 (Python 3.11). Seen 2026-11-28.
#
# A reader would expect: `bradley_terry` and `newman` are documented as
#   computing the Bradley-Terry scores of the given comparisons. Where such
#   scores do not exist (a model that never lost has no finite one), a very
#   large number, an infinity, a warning or an error would each tell so, and
#   the models that beat one another would stay apart as before.
#
# What happens: with one undefeated model every score of both methods is
#   exactly the tolerance, 1e-6; the best and the worst are equal, and
#   `pairwise_frame` says 0.5 for every pair. Nothing warns. `bradley_terry`
#   reports 2 iterations of the 100 allowed, as if it had converged early.
#   `newman` is wrong on the plainest case too: two models, 3 wins to 1,
#   where the answer is the ratio 3, end with equal scores after all 100
#   iterations, whereas `bradley_terry` gives 3. Both solvers agree.
#
# Output:
#   evalica 0.4.2 numpy 2.4.6 pandas 3.1.1
#   bradley_terry, solver pyo3
#     three models, each lost some: {'fair': 1.0, 'good': 1.597, 'weak': 0.6261}
#     and one that never lost:      {'best': 1e-06, 'fair': 1e-06, 'good': 1e-06, 'weak': 1e-06}
#       iterations 2
#   newman, solver pyo3
#     three models, each lost some: {'fair': 1.0, 'good': 1.597, 'weak': 0.6261}
#     and one that never lost:      {'best': 1e-06, 'fair': 1e-06, 'good': 1e-06, 'weak': 1e-06}
#       iterations 100
#   bradley_terry, solver naive
#     three models, each lost some: {'fair': 1.0, 'good': 1.597, 'weak': 0.6261}
#     and one that never lost:      {'best': 1e-06, 'fair': 1e-06, 'good': 1e-06, 'weak': 1e-06}
#       iterations 2
#   newman, solver naive
#     three models, each lost some: {'fair': 1.0, 'good': 1.597, 'weak': 0.6261}
#     and one that never lost:      {'best': 1e-06, 'fair': 1e-06, 'good': 1e-06, 'weak': 1e-06}
#       iterations 100
#   two models, 3 wins to 1, bradley_terry: {'a': 1.732, 'b': 0.5774} iterations 2
#   two models, 3 wins to 1, newman: {'a': 1.0, 'b': 1.0} iterations 100
#
# For users of preference and RLHF tooling: a leaderboard of checkpoints in
#   which the newest wins every judged game (the usual hoped-for outcome of a
#   short run) becomes a table of ties. Check that no score equals the
#   tolerance, or add a prior (half a win each way) before fitting.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3.11 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'evalica==0.4.2' 'numpy==2.4.6' 'pandas==3.1.1'
cd "$tmp"
"$tmp/venv/bin/python" -W error - <<'EOF'
import evalica
import numpy
import pandas
from evalica import Winner

print("evalica", evalica.__version__, "numpy", numpy.__version__, "pandas", pandas.__version__)


def games(*counts):
    rows = []
    for left, right, won, lost in counts:
        rows += [(left, right, Winner.X)] * won + [(left, right, Winner.Y)] * lost
    return [list(column) for column in zip(*rows)]


def shown(scores):
    return {name: float(f"{value:.4g}") for name, value in sorted(scores.items())}


three = games(("good", "fair", 2, 1), ("fair", "weak", 2, 1), ("good", "weak", 2, 1))
four = games(
    ("good", "fair", 2, 1), ("fair", "weak", 2, 1), ("good", "weak", 2, 1), ("best", "good", 1, 0), ("best", "fair", 1, 0)
)
two = games(("a", "b", 3, 1))
for solver in ("pyo3", "naive"):
    for method in (evalica.bradley_terry, evalica.newman):
        print(f"{method.__name__}, solver {solver}")
        before = method(*three, solver=solver)
        print("  three models, each lost some:", shown(before.scores))
        after = method(*four, solver=solver)
        print("  and one that never lost:     ", shown(after.scores), "iterations", after.iterations)
        assert before.scores["good"] > 1.5 * before.scores["fair"] > 2 * before.scores["weak"]
        assert set(after.scores) == {1e-6}
        assert (evalica.pairwise_frame(after.scores) == 0.5).all().all()
        if method is evalica.bradley_terry:
            assert after.iterations == 2
pairs = {method.__name__: method(*two) for method in (evalica.bradley_terry, evalica.newman)}
for name, result in pairs.items():
    print(f"two models, 3 wins to 1, {name}:", shown(result.scores), "iterations", result.iterations)
ratio = {name: result.scores["a"] / result.scores["b"] for name, result in pairs.items()}
assert abs(ratio["bradley_terry"] - 3) < 1e-6
assert abs(ratio["newman"] - 1) < 1e-6 and pairs["newman"].iterations == 100
EOF
