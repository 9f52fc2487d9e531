"""Adds a Python function to what RLHF maximises: letters that are as good, and shorter.

  python examples/reward_function.py runs/brief [--config.rl.steps=40 …]

A function takes prompts, responses and references (None for a policy), all in words, and returns a
number per response. The reward model's scores have deviation 1, so the weight says how many
deviations a unit of the function is worth.
"""

import pathlib
import sys
from collections.abc import Sequence

import pit_jax
from pit_jax import configurations
from pit_jax.tasks import synthetic


def brevity(
  prompts: Sequence[str], responses: Sequence[str], references: Sequence[str] | None
) -> list[float]:
  """Returns minus a tenth for every word of a response."""
  return [-0.1 * len(response.split()) for response in responses]


def main(workdir: str, *values: str) -> None:
  """Trains a policy in a folder, and counts the words of its answers."""
  config = pit_jax.get_config("rlhf:tiny")
  # This file is its module; from elsewhere it would be "my_package.my_module:brevity".
  config.rl.rewards = (("reward", 1.0), (f"{pathlib.Path(__file__).stem}:brevity", 1.0))
  configurations.change(config, values)
  run = pit_jax.train(config, workdir)

  rows = list(synthetic.preferences(64, seed=12_345))
  answers = run.answer([row["prompt"] for row in rows])
  for name, texts in (("policy", answers), ("data", [row["chosen"] for row in rows])):
    words = sum(len(text.split()) for text in texts) / len(texts)
    print(f"{words:.1f} words per letter of the {name}")


if __name__ == "__main__":
  main(*sys.argv[1:])
