"""The improver's curriculum: references, order of the stages, ablations."""

import itertools
import json

import jax
import numpy as np
import pytest
import tiny_run

from pit_jax.data import encode
from pit_jax.recipes import pit
from pit_jax.recipes.pit import curriculum, gap_rewards
from pit_jax.stages import reward, rl
from pit_jax.training import optimizers
from pit_jax.training import step as training_step


def test_the_policy_gives_one_reference_per_prompt_once(finished_run, copied, sampled):
  path = copied.workdir / "references" / "policy.jsonl"
  written = [json.loads(line) for line in path.read_text().splitlines()]
  assert [row["prompt"] for row in written] == [row.prompt for row in copied.rows.folds["rl"]]
  policy, asked = finished_run.models.policy.rl.params, copied.rows.fold("rl")
  responses = [row["response"] for row in written]
  assert curriculum.policy_references(copied, asked, policy).column("response") == responses
  assert not sampled, "the file was there"
  path.unlink()
  assert curriculum.policy_references(copied, asked, policy).column("response") == responses
  assert len(sampled) == 1


def encoded_prompts(context, pairs):
  settings = context.rows.settings
  limits = (settings.max_prompt_length, settings.max_response_length)
  return [
    settings.template.encode(
      settings.tokenizer, settings.template.formats["improver"].conversations([x], [y]), *limits
    ).ids[0]
    for x, y in pairs
  ]


def test_a_curriculum_stage_mixes_its_references(finished_run):
  context, rl_rows = finished_run.context, finished_run.context.rows.folds["rl"]
  drafts = [f"Draft {i}." for i in range(len(rl_rows))]
  by_source = {
    "dataset.rejected": [(row.prompt, row.rejected) for row in rl_rows],
    "dataset.chosen": [(row.prompt, row.chosen) for row in rl_rows],
    "policy": [(row.prompt, draft) for row, draft in zip(rl_rows, drafts)],
  }
  for count in (1, 2, 3):
    for sources in itertools.combinations(by_source, count):
      texts = curriculum.texts(context.rows.fold("rl"), sources, drafts)
      record = encode.prompts(
        context.rows.settings.formats["improver"].conversations(*texts), context.rows.settings
      )[:]
      made = [row[mask].tolist() for row, mask in zip(record.tokens, record.mask)]
      wanted = [pair for source in sources for pair in by_source[source]]
      assert sorted(made) == sorted(encoded_prompts(context, wanted)), sources


def stages(*changes):
  made = tiny_run.config().curriculum[:1] * len(changes)
  made = [stage.copy_and_resolve_references() for stage in made]
  for stage, changed in zip(made, changes):
    stage.update(changed)
  return made


@pytest.mark.parametrize(
  ("wrong", "message"),
  [
    ([{"references": ("dataset.rejected", "dataset.better")}], r"'dataset\.better'.*dataset\.chos"),
    ([{"references": ()}], r"references=\(\); use some of dataset.rejected"),
    ([{}, {}], "name of its own"),
    ([{"steps": 0}], "steps=0"),
    ([{"samples": 0}], r"curriculum\[0\]\.samples=0; use None, or 1 or more"),
    ([{"estimator": "rloo"}], r"\[0\]\.estimator='rloo' with curriculum\[0\]\.samples=1: a resp"),
    ([{"scale_rewards": False}], r"scale_rewards=False with curriculum\[0\]\.estimator='gae', whi"),
    (
      [{"name": "a"}, {"name": "b", "estimator": "grpo", "samples": 2}],
      r"curriculum\[0\]\.estimator='gae' with curriculum\[1\]\.estimator='grpo': the stages are",
    ),
    ([], "at least one"),
  ],
)
def test_a_curriculum_that_cannot_run_is_refused_before_any_training(tmp_path, wrong, message):
  config = tiny_run.config()
  config.curriculum = tuple(stages(*wrong))
  with pytest.raises(ValueError, match=message):
    tiny_run.build(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()
  assert not list(tmp_path.iterdir())


def test_a_batch_that_makes_no_whole_groups_is_refused_before_any_training(tmp_path):
  config = tiny_run.config()
  config.curriculum = tuple(stages({"samples": 3}))
  said = r"rl\.batch_size=8 with curriculum\[0\]\.samples=3 has to be a multiple of 3"
  with pytest.raises(ValueError, match=said):
    tiny_run.build(config, tmp_path / "run")


def learner(params, moments, kl_coefficient):
  state = training_step.TrainState(0, params, moments)
  return rl.Learner(params["policy"], {}, state, {}, kl_coefficient)


KL_COEFFICIENTS = (0.5, 0.5, 0.25, 0.0, 0.25)
HANDED_ON = (0.5, 1.0, 1.0, 0.0, 0.25)  # where every stage doubles what it was handed


def run_recorded(context, monkeypatch, count):
  """Runs a curriculum whose stages only note what they are given; returns that and the result.

  The controller doubles β in every stage.
  """
  calls = []

  def record(context, name, prompts, rewards, **given):
    calls.append({"name": name, "prompts": prompts, **given})
    doubled = 2 * given["start"].kl_coefficient
    return learner({"policy": {"after": name}}, {"moments after": name}, doubled)

  def begin(context, start, job, kl_coefficient):
    return learner(start, {"moments": 0}, kl_coefficient)

  monkeypatch.setattr(rl, "run", record)
  monkeypatch.setattr(rl, "begin", begin)
  plan = stages(
    *({"name": f"s{i}", "steps": i + 1, "kl_coefficient": KL_COEFFICIENTS[i]} for i in range(count))
  )
  result = curriculum.run(
    context,
    "improver",
    context.rows.fold("rl"),
    plan,
    job=context.config.rl,
    improver_sft={"first": 0},
    gap_reward=gap_rewards.of_model(
      context, reward.RewardModel({"bias": 0}, {"zero_point": 0.0, "shift": 0.0})
    ),
    from_policy=tiny_run.references(f"Draft {i}." for i in range(len(context.rows.folds["rl"]))),
  )
  return calls, result


@pytest.mark.parametrize("count", [1, 2, 5])
def test_each_stage_of_a_curriculum_starts_where_the_last_one_ended(
  finished_run, monkeypatch, count
):
  context = finished_run.context
  calls, result = run_recorded(context, monkeypatch, count)
  assert [call["name"] for call in calls] == [f"improver_s{i}" for i in range(count)]
  assert [call["steps"] for call in calls] == [i + 1 for i in range(count)]
  assert [call["begun"] for call in calls] == [sum(range(i + 1)) for i in range(count)]
  assert {call["planned"] for call in calls} == {sum(range(count + 1))}
  job = context.config.rl
  assert {call["job"].value_warmup for call in calls} == {job.value_warmup}, "once, by `begun`"
  assert [call["start"].kl_coefficient for call in calls] == list(HANDED_ON[:count])
  assert all(call["reference"] == {"first": 0} for call in calls)
  starts = [learner({"policy": {"first": 0}, "value": {"bias": 0}}, {"moments": 0}, 0.5)]
  starts += [
    learner({"policy": {"after": name}}, {"moments after": name}, HANDED_ON[i])
    for i, name in enumerate((f"improver_s{i}" for i in range(count - 1)), start=1)
  ]
  assert [call["start"] for call in calls] == starts
  assert result.params == {"after": f"improver_s{count - 1}"}


def test_a_curriculum_has_one_schedule_of_each_rate(finished_run, monkeypatch):
  rates = []

  def record(context, name, prompts, rewards, *, start, steps, job, begun, planned, **_):
    schedule = optimizers.schedule(job, planned)
    rates.extend(jax.device_get([schedule(begun + step) for step in range(steps)]))
    return start

  monkeypatch.setattr(rl, "run", record)
  context = tiny_run.with_values(
    finished_run.context, finished_run.workdir, rl__value_warmup=5, rl__warmup=0.4
  )
  heights = (1e-3, 1e-3, 4e-3)
  plan = stages(
    *(
      {"name": f"s{i}", "steps": steps, "learning_rate": height}
      for i, (steps, height) in enumerate(zip((3, 4, 3), heights))
    )
  )
  models = finished_run.models
  references = [row.rejected for row in context.rows.folds["rl"]]
  curriculum.run(
    context,
    "improver",
    context.rows.fold("rl"),
    plan,
    job=context.config.rl,
    improver_sft=models.improver_sft.params,
    gap_reward=models.gap_rewards["pit"],
    from_policy=tiny_run.references(references),
  )
  height = np.repeat(heights, (3, 4, 3))
  value = [min((step + 1) / 4, (10 - step) / 6) for step in range(10)]
  policy = 5 * [0.0] + [min((step + 1) / 2, (5 - step) / 3) for step in range(5)]
  for kind, whole in (("policy", policy), ("value", value)):
    np.testing.assert_allclose([rate[kind] for rate in rates], whole * height, rtol=1e-5)


def test_ablations_get_all_the_steps_of_the_curriculum(finished_run):
  config = finished_run.context.config
  total = sum(stage.steps for stage in config.curriculum)
  first, last = config.curriculum[0].name, config.curriculum[-1].name
  steps = {
    f"pit_{first}": config.curriculum[0].steps,
    f"pit_{last}": config.curriculum[-1].steps,
    f"pit_first_only_{first}": total,
    f"pit_second_only_{last}": total,
    "rlhf_longer": total,
    **{
      f"{name}_{stage.name}": stage.steps
      for name in ("pit_single_term", "pit_rp_difference")
      for stage in config.curriculum
    },
    "rl_policy": config.rl.steps,
  }
  assert total > config.curriculum[0].steps
  assert {name: tiny_run.last_step(finished_run.workdir, name) for name in steps} == steps
  names = ["pit_first_only", "pit_second_only", "rlhf_longer"]
  names += ["pit_single_term", "pit_rp_difference", "improver_dpo"]
  assert list(finished_run.models.ablations) == names, "the order numbers their streams of noise"


def test_every_stage_of_a_curriculum_names_its_part_of_the_configuration():
  """What is to be changed of it is there, and not in the section of RL."""
  config = tiny_run.config(ablations=True)
  first, last = (stage.name for stage in config.curriculum)
  parts = {stage.name: stage.part for stage in pit.RECIPE.stages(config) if stage.part}
  assert parts == {
    f"pit_first_only_{first}": "curriculum[0]",
    f"pit_second_only_{last}": "curriculum[1]",
    **{
      f"{name}_{stage}": f"curriculum[{index}]"
      for name in ("pit", "pit_single_term", "pit_rp_difference")
      for index, stage in enumerate((first, last))
    },
  }
