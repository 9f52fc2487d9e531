"""Embedded tasks: data sets that are made here and come with a gold score."""
