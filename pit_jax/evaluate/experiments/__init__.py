"""The experiments on a finished run, one per file.

Each has measure(run) → its part of results.json: whole sections, and rows of `comparisons` or
entries of `systems`, which several experiments share. A new one is a file here, a line in
findings.EXPERIMENTS, a stream of noise in subject.py where it samples, and a table in
experiment_tables.py.
"""
