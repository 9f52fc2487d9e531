"""The host's training loop, its checkpoints and its metric writers; the compiled train step."""
