"""Methods, each a sequence of stages."""
