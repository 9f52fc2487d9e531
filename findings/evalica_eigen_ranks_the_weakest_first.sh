#!/usr/bin/env bash
# evalica: `eigen` gives the highest score to the weakest model
#
# Versions: evalica 0.4.2, numpy 2.4.6, pandas 3.1.1 (Python 3.11). Seen 2026-11-28.
#
# A reader would expect: all methods of the library take the same games and
#   return scores sorted from the highest down; the docstring of `eigen` calls
#   its result the eigenvalue-based scores, and the README lists it beside the
#   others. So its order should agree with theirs where those agree among
#   themselves.
#
# What happens: on clean data (four models, 60 games a pair, the stronger wins
#   more in each pair) counting, average win rate, Bradley-Terry, Newman and
#   PageRank all rank best, good, fair, weak, and `eigen` ranks exactly the
#   other way round. Its numbers are the leading eigenvector of the transposed
#   win matrix: a score for losing to those who lose much. Both solvers agree.
#
# Output:
#   evalica 0.4.2 numpy 2.4.6 pandas 3.1.1
#   games won, row over column: [[0, 40, 48, 53], [20, 0, 40, 48], [12, 20, 0, 40], [7, 12, 20, 0]]
#   pyo3  counting         {'best': 141.0, 'good': 108.0, 'fair': 72.0, 'weak': 39.0}
#   pyo3  average_win_rate {'best': 0.7833, 'good': 0.6, 'fair': 0.4, 'weak': 0.2167}
#   pyo3  bradley_terry    {'best': 2.8013, 'good': 1.4132, 'fair': 0.7076, 'weak': 0.357}
#   pyo3  newman           {'best': 2.8013, 'good': 1.4132, 'fair': 0.7076, 'weak': 0.357}
#   pyo3  pagerank         {'best': 0.3147, 'good': 0.2938, 'fair': 0.2285, 'weak': 0.1631}
#   pyo3  eigen            {'weak': 0.7021, 'fair': 0.544, 'good': 0.3848, 'best': 0.251}
#   naive counting         {'best': 141.0, 'good': 108.0, 'fair': 72.0, 'weak': 39.0}
#   naive average_win_rate {'best': 0.7833, 'good': 0.6, 'fair': 0.4, 'weak': 0.2167}
#   naive bradley_terry    {'best': 2.8013, 'good': 1.4132, 'fair': 0.7076, 'weak': 0.357}
#   naive newman           {'best': 2.8013, 'good': 1.4132, 'fair': 0.7076, 'weak': 0.357}
#   naive pagerank         {'best': 0.3147, 'good': 0.2938, 'fair': 0.2285, 'weak': 0.1631}
#   naive eigen            {'weak': 0.7021, 'fair': 0.544, 'good': 0.3848, 'best': 0.251}
#   eigenvector of the win matrix:     [0.7021, 0.544, 0.3848, 0.251]
#   eigenvector of its transposed one: [0.251, 0.3848, 0.544, 0.7021]
#
# For users of preference and RLHF tooling: choosing a checkpoint by the top
#   row of `eigen` chooses the worst one, and averaging ranks over the methods
#   pulls the ends together. Compare its order with another method's first.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3.11 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'evalica==0.4.2' 'numpy==2.4.6' 'pandas==3.1.1'
cd "$tmp"
"$tmp/venv/bin/python" - <<'EOF'
import evalica
import numpy as np
import pandas
from evalica import Winner

print("evalica", evalica.__version__, "numpy", np.__version__, "pandas", pandas.__version__)
names, strength = ["best", "good", "fair", "weak"], [4.0, 2.0, 1.0, 0.5]
wins = np.zeros((4, 4))
rows = []
for i in range(4):
    for j in range(i + 1, 4):
        won = round(60 * strength[i] / (strength[i] + strength[j]))
        wins[i, j], wins[j, i] = won, 60 - won
        rows += [(names[i], names[j], Winner.X)] * won + [(names[i], names[j], Winner.Y)] * (60 - won)
xs, ys, winners = (list(column) for column in zip(*rows))
print("games won, row over column:", wins.astype(int).tolist())


def leading(matrix):
    values, vectors = np.linalg.eig(matrix)
    vector = vectors[:, values.real.argmax()].real
    return np.abs(vector)


for solver in ("pyo3", "naive"):
    for method in ("counting", "average_win_rate", "bradley_terry", "newman", "pagerank", "eigen"):
        scores = getattr(evalica, method)(xs, ys, winners, solver=solver).scores
        print(f"{solver:5} {method:16}", {name: round(float(value), 4) for name, value in scores.items()})
        assert list(scores.index) == (names[::-1] if method == "eigen" else names)
        if method == "eigen":
            eigen = scores[names].to_numpy()
print("eigenvector of the win matrix:    ", leading(wins).round(4).tolist())
print("eigenvector of its transposed one:", leading(wins.T).round(4).tolist())
assert np.allclose(eigen, leading(wins.T), atol=1e-4)
assert not np.allclose(eigen, leading(wins), atol=0.1)
EOF
