"""Experiments that any recipe can use, one per file; recipes have others of their own.

Each has measure(run) → its part of results.json: whole sections, and rows of `comparisons` or
entries of `systems`, which several experiments share. A recipe names those that it has.
"""
