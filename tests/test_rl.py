"""The host's loop of RL: its keys, its restarts, and the policy's RL carried on."""

import json
import shutil

import jax
import ml_collections
import numpy as np
import pytest
import tiny_run

from pit_jax.recipes.pit import subject
from pit_jax.recipes.rlhf import policy_chain
from pit_jax.rollout import inference
from pit_jax.stages import rl
from pit_jax.training import optimizers, record


def bits(key) -> tuple:
  return tuple(jax.random.key_data(key).tolist())


def arrays(workdir, stage: str, step: int) -> dict:
  """Returns the checksum of every array of a checkpoint, under the array's name."""
  path = workdir / "checkpoints" / stage / str(step) / "record" / "metadata"
  record = json.loads(path.read_text())
  return dict(zip(record["arrays"], record["checksums"], strict=True))


@pytest.fixture
def noted(monkeypatch):
  """Notes what every iteration of RL is given, and what sampling is."""
  calls = {"sample": [], "learn": [], "states": []}
  sample_batch, program = inference.Inference.sample_batch, rl.program

  def sampling(self, params, batch, key, *rest):
    calls["sample"].append(bits(key))
    return sample_batch(self, params, batch, key, *rest)

  def noting(*arguments):
    iterate = program(*arguments)

    def iteration(state, frozen, *rest):
      *_, key, _, _ = rest
      calls["learn"].append(bits(key))
      calls["states"].append(jax.device_get(state))
      return iterate(state, frozen, *rest)

    return iteration

  monkeypatch.setattr(inference.Inference, "sample_batch", sampling)
  monkeypatch.setattr(rl, "program", noting)
  return calls


def test_every_sampling_and_every_iteration_has_a_key_of_its_own(copied, noted):
  shutil.rmtree(copied.workdir / "checkpoints" / "rl_policy")
  policy_chain.train_policy(tiny_run.with_values(copied, copied.workdir, frontier__checkpoints=0))
  assert len(noted["learn"]) == tiny_run.STEPS
  keys = [*noted["sample"][: tiny_run.STEPS], *noted["learn"]]
  assert len(set(keys)) == 2 * tiny_run.STEPS


@pytest.mark.parametrize("completed", [1, 2])  # within the value warm-up, and at its end
def test_a_restart_around_the_end_of_the_value_warm_up_changes_no_bit(copied, completed):
  shutil.rmtree(copied.workdir / "checkpoints" / "rl_policy")
  changed = {"rl__value_warmup": 2, "save_every_rl": 1, "checkpoints__keep": 9}
  context = tiny_run.with_values(copied, copied.workdir, **changed)
  policy_chain.train_policy(context)
  whole = arrays(context.workdir, "rl_policy", tiny_run.STEPS)
  before = arrays(context.workdir, "rl_policy", 1)
  waiting = arrays(context.workdir, "rl_policy", 2)
  moved = {name for name in waiting if waiting[name] != before[name]}
  assert moved and not any("policy" in name for name in moved), "nor moments and count of it"
  assert {name for name in whole if whole[name] != waiting[name] and "policy" in name}
  for step in range(completed + 1, tiny_run.STEPS + 1):
    shutil.rmtree(context.workdir / "checkpoints" / "rl_policy" / str(step))
  policy_chain.train_policy(context)
  assert arrays(context.workdir, "rl_policy", tiny_run.STEPS) == whole


def test_the_policys_rl_is_carried_on_with_all_that_it_had(copied, noted):
  """rlhf_longer begins with every array that the last checkpoint of M_P^RL holds."""
  steps = 2
  for stage in ("rl_policy", "rlhf_longer"):
    shutil.rmtree(copied.workdir / "checkpoints" / stage)
  (copied.workdir / "metrics" / "rlhf_longer.jsonl").unlink()
  context = tiny_run.with_values(copied, copied.workdir, rl__kl_target=5.0)
  policy = policy_chain.train_policy(context)
  noted["states"].clear()
  policy_chain.train_longer(context, policy, "rlhf_longer", steps)
  first = noted["states"][0]
  saved = arrays(copied.workdir, "rl_policy", tiny_run.STEPS)
  assert dict(zip(record.describe(first), record.checksums(jax.device_put(first)))) == saved
  assert len(noted["states"]) == steps
  assert first.kl_coefficient != copied.config.rl.kl_coefficient, "the controller had moved it"
  second = noted["states"][1]
  assert changed(first.train.params["policy"], second.train.params["policy"]), "no second warm-up"
  rows = [json.loads(line) for line in (copied.workdir / "metrics" / "rlhf_longer.jsonl").open()]
  height = copied.config.rl.learning_rate
  np.testing.assert_allclose([row["learning_rate"] for row in rows], [height, height / 2])
  assert rows[0]["objective/kl_coef"] == pytest.approx(float(first.kl_coefficient))


def changed(before, after) -> bool:
  return any(np.any(a != b) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after)))


@pytest.mark.parametrize(
  ("share", "planned", "expected"), [(0.1, 26, 332.8), (0.1, 200, 2560), (0.01, 50, 128)]
)
def test_the_horizon_is_a_share_of_the_planned_episodes_and_one_batch_at_least(
  share, planned, expected
):
  job = ml_collections.ConfigDict({"batch_size": 128, "kl_horizon": share})
  assert optimizers.horizon(job, planned) == pytest.approx(expected)


def test_beside_the_longer_rlhf_stands_the_better_of_two_samples_of_it(finished_run):
  """R_P chooses, so it is no judge; the first of the two is the sample of rlhf_longer itself."""
  run = subject.of_run(finished_run.context, finished_run.models)
  first, chosen = run.ablated["rlhf_longer"], run.ablated["rlhf_longer_best_of_2"]
  rate, params = run.context.models.inference.rate, finished_run.models.policy.reward.params
  scores = [rate(params, run.suite.questions, texts) for texts in (first, chosen)]
  differs = np.array([a != b for a, b in zip(first, chosen)])
  assert 0 < differs.sum() < len(first)
  assert (scores[1] > scores[0])[differs].all()
  results = json.loads((run.context.workdir / "report" / "results.json").read_text())
  rows = [row for row in results["comparisons"] if row["b"] == "rlhf_longer_best_of_2"]
  assert {(row["a"], row["judge"]) for row in rows} == {("pit", "gold"), ("pit", "R_PIT")}
