"""Improvers that learn without a value model: what a group shares, and how it is planned."""

import shutil
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import test_rl
import tiny_run
from test_curriculum import encoded_prompts

from pit_jax import types
from pit_jax.recipes import pit
from pit_jax.recipes.pit import curriculum
from pit_jax.run import kinds
from pit_jax.stages import rl
from pit_jax.tools.plan import planning

GROUPED = (
  {"estimator": "rloo", "samples": 4},
  {"estimator": "grpo", "samples": 2, "scale_rewards": False, "loss_kl_coefficient": 0.15},
)


def improve(context, models, references):
  """Runs the curriculum of an improver without a value model; its stages have groups of their own.

  Returns what was rewarded: rows, prompts, responses and scores of every iteration.
  """
  plan = [stage.copy_and_resolve_references() for stage in context.config.curriculum]
  for stage, own in zip(plan, GROUPED, strict=True):
    stage.update(own)
  rewarded = []

  def noting(rewards, places, prompts, responses):
    total, scores = REWARDED(rewards, places, prompts, responses)
    rewarded.append(jax.device_get((places, prompts, responses, scores["gap"])))
    return total, scores

  with mock.patch.object(rl, "_rewarded", noting):
    curriculum.run(
      context,
      "pit",
      context.rows.fold("rl"),
      plan,
      job=context.config.rl,
      improver_sft=models.improver_sft.params,
      gap_reward=models.gap_rewards["pit"],
      from_policy=references,
    )
  return rewarded


REWARDED = rl._rewarded


def left_padded(ids, like):
  tokens = np.zeros(like.tokens.shape, np.int32)
  mask = np.zeros(like.mask.shape, bool)
  for row, each in enumerate(ids):
    tokens[row, -len(each) :] = each
    mask[row, -len(each) :] = True
  return types.Prompts(jnp.array(tokens), jnp.array(mask))


def test_a_group_of_an_improver_shares_prompt_and_draft_and_a_restart_changes_no_bit(
  finished_run, copied
):
  for stage in ("pit_data", "pit_policy"):
    shutil.rmtree(copied.workdir / "checkpoints" / stage)
    (copied.workdir / "metrics" / f"{stage}.jsonl").unlink()
  given = {"save_every_rl": 1, "checkpoints__keep": 9, "rl__value_warmup": 9}  # of no meaning
  context = tiny_run.with_values(copied, copied.workdir, **given)
  models, fold = finished_run.models, context.rows.fold("rl")
  references = curriculum.policy_references(context, fold, models.policy.rl.params)
  rewarded = improve(context, models, references)

  # The same prompts from x and draft in words, in one program with those of the run.
  scorer = context.models.inference.sample_scorer
  params, shift = models.gap_reward.params, models.gap_reward.facts["shift"]
  assert len(rewarded) == 2 * (tiny_run.STEPS + 1), "after its last iteration a stage shows samples"
  different = 0
  for index, (places, prompts, responses, scores) in enumerate(rewarded):
    number = index // (tiny_run.STEPS + 1)
    count = GROUPED[number]["samples"]
    sources = context.config.curriculum[number].references
    questions, drafts = curriculum.texts(fold, sources, references.column("response"))
    rows = np.repeat(places[::count], count)
    np.testing.assert_array_equal(places, rows)
    ids = encoded_prompts(context, [(questions[row], drafts[row]) for row in rows])
    assert ids == [row[mask].tolist() for row, mask in zip(prompts.tokens, prompts.mask)]
    alone = np.asarray(scorer(params, left_padded(ids, prompts), responses)) + shift
    np.testing.assert_allclose(scores, alone, rtol=1e-4, atol=1e-5)
    answers = responses.tokens.reshape(len(rows) // count, count, -1)
    different += (answers != answers[:, :1]).any()
  assert different, "the samples of a group are its own"

  last = dict.fromkeys(("pit_data", "pit_policy"), tiny_run.STEPS)
  whole = {name: test_rl.arrays(context.workdir, name, step) for name, step in last.items()}
  assert not [name for name in whole["pit_policy"] if "['value']['" in name]
  for step in (2, 3):
    shutil.rmtree(context.workdir / "checkpoints" / "pit_policy" / str(step))
  improve(context, models, references)
  assert {name: test_rl.arrays(context.workdir, name, step) for name, step in last.items()} == whole


def test_a_stage_with_groups_of_its_own_is_planned_with_them():
  config = tiny_run.config()
  for stage, own in zip(config.curriculum, GROUPED, strict=True):
    stage.update(own)
  planned = {stage.name: stage for stage in pit.RECIPE.stages(config)}
  jobs = [kinds.job_of(config, planned[name]) for name in ("rl_policy", "pit_data", "pit_policy")]
  assert [(job.estimator, job.samples) for job in jobs] == [("gae", 1), ("rloo", 4), ("grpo", 2)]
  assert (config.rl.samples, config.rl.estimator) == (1, "gae")
  arrays = planning.arrays(config, pit.RECIPE, jax.devices()[:1], None)
  stage = planned["pit_data"]
  for make, *given in kinds.kind_of(pit.RECIPE, config, stage).programs(arrays, stage):
    program = make(arrays, *given)
    assert "value" not in program.roles
    if program.name == "sample":
      assert program.arguments[1].tokens.shape[0] == config.rl.batch_size // 4
