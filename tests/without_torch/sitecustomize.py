"""Hides torch from commands under test: most users have none, and to import it takes seconds."""

from importlib.machinery import PathFinder

find_spec = PathFinder.find_spec


def find_all_but_torch(name, path=None, target=None):
  return None if name == "torch" else find_spec(name, path, target)


PathFinder.find_spec = find_all_but_torch
