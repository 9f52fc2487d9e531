"""Reward against KL: samples kept along training, their moments, and when a knee is one."""

import itertools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tiny_run

from pit_jax.data import encode
from pit_jax.evaluate import findings
from pit_jax.evaluate.experiments import frontier as experiment
from pit_jax.recipes import pit
from pit_jax.recipes.rlhf import policy_chain
from pit_jax.rollout import inference
from pit_jax.stages import frontier
from pit_jax.statistics import frontiers


def of(generator, means, n, noise=1.0):
  """Returns values of checkpoints on prompts that all of them find equally hard, Float[K n]."""
  hardness = generator.normal(0, 2.0, n)
  return np.array(means)[:, None] + hardness + noise * generator.normal(size=(len(means), n))


def test_moments_of_parts_join_to_those_of_the_whole():
  generator = np.random.default_rng(0)
  parts = [
    of(generator, means, n) for means, n in (((0, 1, 2), 7), ((5, 1, 0), 12), ((0, 0, 9), 2))
  ]
  whole = frontiers.join([frontiers.moments(part) for part in parts])
  values = np.concatenate(parts, axis=1)
  assert whole["n"] == 21
  np.testing.assert_allclose(whole["mean"], values.mean(axis=1))
  np.testing.assert_allclose(whole["covariance"], np.cov(values))


def test_intervals_are_those_of_students_tests():
  values = of(np.random.default_rng(0), (0, 0.4, 0.1), 30)
  known = frontiers.moments(values)
  change, bounds = frontiers.changes(known, 0.02)
  for place in (0, 1):
    test = scipy.stats.ttest_rel(values[2], values[place]).confidence_interval(0.98)
    assert change[place] == pytest.approx((values[2] - values[place]).mean())
    np.testing.assert_allclose(bounds[place], test)
  for row, bounds in zip(values, frontiers.intervals(known), strict=True):
    np.testing.assert_allclose(bounds, scipy.stats.ttest_1samp(row, 0).confidence_interval(0.95))


def bend(generator, judge, proxy=(0, 1, 2, 3), kl=(0, 1, 4, 9), n=200):
  values = {"kl": kl, "proxy": proxy, "judge": judge}
  return frontiers.knee(**{
    name: frontiers.moments(of(generator, means, n)) for name, means in values.items()
  })  # fmt: skip


def test_a_judge_that_falls_while_the_proxy_rises_shows_a_knee():
  generator = np.random.default_rng(0)
  found = bend(generator, judge=(0, 1, 2, 0.5))
  assert found["knee"]["index"] == 2 and found["knee"]["kl"] == pytest.approx(4, abs=0.6)
  low, high = found["knee"]["ci95"]
  assert low == high == found["knee"]["kl"], "far above all others, it is the highest in every draw"
  # Two checkpoints that nobody can tell apart may each be the highest.
  low, high = bend(generator, judge=(0, 2, 2, 0))["knee"]["ci95"]
  assert (low, high) == (pytest.approx(1, abs=0.6), pytest.approx(4, abs=0.6))


@pytest.mark.parametrize(
  "changed",
  [
    {"judge": (0, 1, 2, 3)},  # it never fell
    {"judge": (0, 0.2, 2, 1), "proxy": (0, 1, 3, 2)},  # the proxy fell too
    {"judge": (0, 0.2, 2, 1), "kl": (0, 1, 9, 4)},  # it fell on the way back
  ],
)
def test_what_is_no_over_optimisation_is_no_knee(changed):
  found = bend(np.random.default_rng(0), **changed)
  assert found["knee"] is None and found["since"]


def test_noise_is_seldom_called_a_knee():
  # All checkpoints are equally good: the highest mean is one before the last in 3 of 4 runs.
  generator, runs = np.random.default_rng(1), 400
  found = [bend(generator, judge=(0, 0, 0, 0), n=60)["knee"] for _ in range(runs)]
  assert sum(knee is not None for knee in found) <= scipy.stats.binom.ppf(0.999, runs, 0.025)


def test_a_checkpoint_of_no_less_kl_is_compared_with_nothing():
  found = bend(np.random.default_rng(0), judge=(1, 0), proxy=(0, 1), kl=(9, 0))
  assert found == {"since": [], "knee": None}


def logprobs(model, params, prompts, responses, temperature):
  """Returns log-probabilities of response tokens, one row after the other, Float[N R]."""
  rows = np.zeros(responses.tokens.shape)
  for i, (tokens, mask) in enumerate(zip(responses.tokens, responses.mask)):
    prompt, response = prompts.tokens[i][prompts.mask[i]], tokens[mask]
    ids = jnp.concatenate([prompt, response])[None]
    logits = np.asarray(model.apply(params, ids, jnp.ones_like(ids, bool)))[0] / temperature
    law = scipy.special.log_softmax(logits[len(prompt) - 1 : -1], axis=-1)
    rows[i, : len(response)] = law[np.arange(len(response)), response]
  return rows


def recorded(monkeypatch):
  """Records what is sampled with its log-probabilities, as (prompts, responses)."""
  sample, calls = inference.Inference.sample, []

  def recording(self, params, prompts, *rest):
    found = sample(self, params, prompts, *rest)
    calls.append((prompts, found.responses))
    return found

  monkeypatch.setattr(inference.Inference, "sample", recording)
  return calls


def test_the_kl_of_what_is_kept(finished_run, tmp_path, monkeypatch):
  context = tiny_run.with_values(
    finished_run.context, tmp_path, rl__temperature=0.7, frontier__prompts=6
  )
  policy, calls = finished_run.models.policy, recorded(monkeypatch)
  other = jax.tree.map(lambda x: 1.5 * x, policy.sft.params)
  watch = frontier.watch(context, 3, policy.sft.params)
  logged = watch.keep("rl_policy", other, 2)
  ((prompts, responses),) = calls
  (kept,) = frontier.read(tmp_path, [("rl_policy", 3)])
  assert (kept.stage, kept.step, kept.drafts) == ("rl_policy", 2, None)
  assert kept.responses == encode.decode_responses(context.rows.settings.tokenizer, responses)
  ask = (context.models.language, other, prompts, responses, 0.7)
  expected = (logprobs(*ask) - logprobs(ask[0], policy.sft.params, *ask[2:])).sum(axis=1)
  assert expected.std() > 1
  np.testing.assert_allclose(kept.kl, expected, rtol=1e-3, atol=1e-3)
  assert logged == {"held_out/kl": pytest.approx(expected.mean(), rel=1e-3)}
  watch.keep("rl_policy", policy.sft.params, 3)
  np.testing.assert_allclose(frontier.read(tmp_path, [("rl_policy", 3)])[1].kl, 0, atol=1e-4)


def test_samples_are_kept_on_held_out_prompts_along_both_chains(finished_run):
  context, folds = finished_run.context, finished_run.context.rows.folds
  files = sorted(path.name for path in (finished_run.workdir / "frontier").iterdir())
  # 3 iterations in 2 parts; 6 of the curriculum in 2 parts, each of which ends a stage.
  names = ["pit_data-3", "pit_policy-3", "rl_policy-2", "rl_policy-3"]
  assert files == [f"{name}.jsonl" for name in names]
  asked = list(dict.fromkeys(row.prompt for row in folds["held_out"]))[:12]
  for name in files:
    lines = (finished_run.workdir / "frontier" / name).read_text().splitlines()
    assert [json.loads(line)["prompt"] for line in lines] == asked
  kept = frontier.read(finished_run.workdir, [("pit_data", 3), ("pit_policy", 3)])
  assert [(point.stage, point.step) for point in kept] == [("pit_data", 3), ("pit_policy", 6)]
  assert kept[0].drafts == kept[1].drafts
  key, policy = context.key("frontier drafts"), finished_run.models.policy.rl.params
  assert kept[0].drafts == context.models.inference.answer(policy, asked, key, 1.0)
  assert kept[0].responses != kept[1].responses


def trained(context):
  state = context.workdir / "checkpoints" / "rl_policy" / str(tiny_run.STEPS)
  return json.loads((state / "record" / "metadata").read_text())["checksums"]


def test_nothing_is_learnt_from_what_is_kept(finished_run, copied):
  shutil.rmtree(copied.workdir / "checkpoints" / "rl_policy")
  before = tiny_run.files(copied.workdir / "frontier")
  policy_chain.train_policy(tiny_run.with_values(copied, copied.workdir, frontier__checkpoints=0))
  assert trained(copied) == trained(finished_run.context)
  assert tiny_run.files(copied.workdir / "frontier") == before, "none were kept"


def test_a_restart_keeps_the_same_samples(finished_run, copied):
  folder = copied.workdir / "frontier"
  before = tiny_run.files(folder)
  shutil.rmtree(copied.workdir / "checkpoints" / "rl_policy" / str(tiny_run.STEPS))
  (folder / "rl_policy-3.jsonl").unlink()
  policy_chain.train_policy(copied)  # from step 2
  assert tiny_run.files(folder) == before
  assert trained(copied) == trained(finished_run.context)


def test_the_frontier_is_what_the_models_say_of_the_samples(finished_run):
  context, models = finished_run.context, finished_run.models
  results = json.loads((finished_run.workdir / "report" / "results.json").read_text())
  found = {chain["chain"]: chain for chain in results["frontier"]["chains"]}
  assert results["frontier"]["judge"] == "gold"
  chains = {"policy": [("rl_policy", 3)], "improver": [("pit_data", 3), ("pit_policy", 3)]}
  for name, stages in chains.items():
    first, *points = found[name]["points"]
    assert (first["step"], first["kl"], first["kl_ci95"]) == (0, 0.0, [0.0, 0.0])
    for point, kept in zip(points, frontier.read(context.workdir, stages), strict=True):
      questions = list(dict.fromkeys(row.prompt for row in context.rows.folds["held_out"]))[:12]
      if kept.drafts is None:
        proxy = context.models.inference.rate(
          models.policy.reward.params, questions, kept.responses
        )
      else:
        texts = (questions, kept.responses, kept.drafts)
        proxy = context.models.inference.gaps(models.gap_reward.params, *texts)
      assert (point["stage"], point["step"]) == (kept.stage, kept.step)
      assert point["kl"] == pytest.approx(kept.kl.mean(), abs=1e-6)
      assert point["proxy"] == pytest.approx(proxy.mean(), abs=1e-4)
      assert point["judge"] == 0.0, "so short a run writes no letter"


def test_frontiers_of_several_runs_are_one_of_all_prompts():
  generator = np.random.default_rng(0)
  parts = [
    {name: of(generator, means, n) for name, means in
     {"kl": (0, 1, 4), "proxy": (0, 1, 2), "judge": (0, 2, 1)}.items()}
    for n in (50, 80)
  ]  # fmt: skip
  points = [{"stage": "rl_policy", "step": step} for step in (0, 5, 9)]

  def described(values):
    known = {name: frontiers.moments(rows) for name, rows in values.items()}
    chain = experiment.describe("policy", "R_P", points, known)
    return {"judge": "gold", "chains": [chain]}

  pooled = experiment.pool([described(part) for part in parts], prompts=(0, 1))
  whole = described({
    name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]
  })  # fmt: skip
  assert pooled["judge"] == "gold" and pooled["chains"][0]["knee"]["index"] == 1
  for one, other in itertools.pairwise((pooled["chains"][0], whole["chains"][0])):
    assert one["knee"]["kl"] == pytest.approx(other["knee"]["kl"])
    for point, same in zip(one["points"], other["points"], strict=True):
      assert {key: pytest.approx(value) for key, value in point.items()} == same


def test_prompts_that_all_runs_share_are_no_further_prompts():
  generator = np.random.default_rng(1)
  shared = generator.normal(0, 3, 60)
  parts = [shared + generator.normal([[0], [1], [2]], 1, (3, 60)) for _ in range(3)]
  described = [
    {"judge": None, "chains": [experiment.describe("policy", "R_P", [{"stage": "rl", "step": k}
     for k in range(3)], {"kl": frontiers.moments(part), "proxy": frontiers.moments(part)})]}
    for part in parts
  ]  # fmt: skip
  pooled = experiment.pool(described, prompts=("a", "a", "a"))["chains"][0]["moments"]["kl"]
  exact = frontiers.moments(np.mean(parts, axis=0))
  assert pooled["n"] == 60
  np.testing.assert_allclose(pooled["mean"], exact["mean"])
  for contrast in generator.normal(size=(20, 3)):
    kept, least = (contrast @ known["covariance"] @ contrast for known in (pooled, exact))
    assert kept >= least
  same = experiment.pool([described[0]] * 3, prompts=("a", "a", "a"))["chains"][0]
  for point, other in zip(same["points"], described[0]["chains"][0]["points"], strict=True):
    assert point["kl_ci95"] == pytest.approx(other["kl_ci95"])


def test_experiments_that_a_run_has_nothing_for_say_what_to_train(finished_run, tmp_path):
  results = json.loads((finished_run.workdir / "report" / "results.json").read_text())
  results["config"]["ablations"] = False
  results["config"]["frontier"]["checkpoints"] = 0
  (tmp_path / "report").mkdir()
  (tmp_path / "report" / "results.json").write_text(json.dumps(results))
  for name, flag in (("ablation", "ablations=True"), ("frontier", "frontier.checkpoints=5")):
    with pytest.raises(ValueError, match=f"nothing for experiment '{name}'; train with .*{flag}"):
      findings.check(pit.RECIPE, tmp_path, name)
  findings.check(pit.RECIPE, tmp_path, "main")
