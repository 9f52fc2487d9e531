"""Experiments on the held-out prompts of a finished run, and the pooling of several seeds."""
