"""Trains the demo, and improves answers with it.

  python examples/train_and_improve.py runs/demo [--config.rl.steps=40 …]

The same line continues a run that was interrupted, and asks one that is finished.
"""

import sys

import pit_jax
from pit_jax import configurations
from pit_jax.tasks import synthetic


def main(workdir: str, *values: str) -> None:
  """Trains in a folder, with values of the configuration set, and prints what the models make."""
  config = pit_jax.get_config("pit:tiny")
  configurations.change(config, values)
  run = pit_jax.train(config, workdir)

  prompts = [row["prompt"] for row in synthetic.preferences(3, seed=12_345)]
  drafts = run.answer(prompts)
  improved = run.improve(prompts, drafts, rounds=3)

  for prompt, made in zip(prompts, improved, strict=True):
    print(f"\n{prompt}\n  {made.draft}")
    for version in made.rounds:
      print(f"  {version.gap:+.2f}  {version.text}")
    print(f"  {made.why}")
  print("\nR_P of the drafts:", run.score(prompts, drafts).round(2))
  print("R_P of what is kept:", run.score(prompts, [made.text for made in improved]).round(2))


if __name__ == "__main__":
  main(*sys.argv[1:])
