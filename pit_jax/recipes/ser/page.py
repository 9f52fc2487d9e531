"""What the report says of self-evolved reward learning: arms, rounds, claims."""

from pit_jax.report import presentation

PAGE = presentation.Presentation(title="Self-evolved reward learning, arXiv 2411.00418")
