"""Objectives: arrays in, (scalar, metrics) out; no networks, no configs."""
