"""Self-improvement at inference: rounds with a stop rule, and Self-Refine."""
