"""A whole run ended by signals, again and again, is in the end bit by bit like one left alone."""

import json
import pathlib
import random
import signal

import mortal
import pytest
import tiny_run

SEED = 0
# Both runs change from one device to two in the middle of the curriculum, and not before.
HANDOVER = mortal.Moment("step", "pit_data", 3, signal.SIGTERM)
DEVICES = 2


def moments(seed: int) -> list[mortal.Moment]:
  """Returns signals in every stage, random ones and those that hit what is most delicate."""
  chance, found = random.Random(seed), []
  for stage in mortal.STAGES:
    devices = 1 if stage != "pit_policy" else DEVICES
    if stage in ("sft_policy", "gap_reward", "pit_policy"):
      # The first checkpoint is complete, and has not got its name.
      found.append(mortal.Moment("file", stage, mortal.SAVED_EVERY, devices=devices))
    if stage == "pit_data":
      found.append(mortal.Moment("step", stage, 1, delay=chance.uniform(0.0, 0.02)))
      found.append(HANDOVER)
    else:
      kinds = chance.sample(("step", "file"), 2)
      found.append(mortal.draw(chance, kinds[0], stage, signal.SIGTERM, devices))
    if stage in ("reward", "rl_policy"):
      found.append(mortal.draw(chance, kinds[1], stage, signal.SIGKILL, devices))
    if stage == "rl_policy":
      # Two devices read the checkpoint that one wrote, and are gone before they save another.
      found.append(mortal.Moment("step", stage, 3, devices=DEVICES))
    if stage == "gap_reward":
      found.append(mortal.Moment("file", "policy.jsonl"))
  return [*found, mortal.Moment("file", "results.json", devices=DEVICES)]


def final_states(workdir: pathlib.Path, steps: int = mortal.STEPS) -> dict:
  """Returns the checksums of all arrays of every stage's last checkpoint, optimisers included."""
  stages = sorted((workdir / "checkpoints").iterdir())
  records = {
    stage.name: json.loads((stage / str(steps) / "record" / "metadata").read_text())
    for stage in stages
  }
  return {name: (record["checksums"], record["arrays"]) for name, record in records.items()}


def results(workdir: pathlib.Path) -> dict:
  found = json.loads((workdir / "report" / "results.json").read_text())
  timed = ("seconds", "goodput", "sampling", "speeds", "made")
  return {name: value for name, value in found.items() if name not in timed}


def logged(workdir: pathlib.Path) -> dict:
  """Returns metrics and samples of every stage, less what measures time."""
  rows = {
    path.relative_to(workdir).as_posix(): [json.loads(line) for line in path.open()]
    for folder in ("metrics", "samples")
    for path in (workdir / folder).iterdir()
  }
  return {
    name: [{key: row[key] for key in row if not key.startswith("perf/")} for row in lines]
    for name, lines in rows.items()
  }


@pytest.mark.slow
def test_a_run_ended_by_signals_ends_like_one_left_alone(tmp_path):
  undisturbed, tortured = tmp_path / "undisturbed", tmp_path / "tortured"
  signals = moments(SEED)
  print(f"seed {SEED}:", *signals, sep="\n")
  assert mortal.run(undisturbed, [HANDOVER], DEVICES) == 2
  assert len(signals) >= 10 and mortal.run(tortured, signals, DEVICES) >= 7

  assert len(final_states(undisturbed)) == 7, "policy: 3, improver: 4"
  assert final_states(tortured) == final_states(undisturbed)
  assert logged(tortured) == logged(undisturbed)
  assert results(tortured) == results(undisturbed)
  written = [tiny_run.files(workdir / "models") for workdir in (tortured, undisturbed)]
  assert written[0] == written[1]
  assert any(name.endswith("model.safetensors") for name in written[0])
  kept = [tiny_run.files(workdir / "frontier") for workdir in (tortured, undisturbed)]
  assert kept[0] == kept[1] and len(kept[0]) == 4, "two of each chain"
  for name in ("references/policy.jsonl", "calibration/reward.json", "calibration/gap_reward.json"):
    assert (tortured / name).read_bytes() == (undisturbed / name).read_bytes(), name
