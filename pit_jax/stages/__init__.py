"""The training jobs a recipe is made of, one per file."""
