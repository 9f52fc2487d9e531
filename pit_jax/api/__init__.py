"""What a Python program asks of the library; `pit_jax` itself has the names that are for it."""
