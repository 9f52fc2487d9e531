"""The training jobs: what they learn, what they write, what they refuse to continue."""

import dataclasses
import itertools
import json
import shutil

import jax
import numpy as np
import pytest
import tiny_run

from pit_jax import types
from pit_jax.data import batches, encode, packing, preferences, tables
from pit_jax.models import pure
from pit_jax.recipes import pit
from pit_jax.recipes.rlhf import policy_chain
from pit_jax.run import workdirs
from pit_jax.stages import objectives, reward, supervised
from pit_jax.statistics import metrics
from pit_jax.training import flight, interruption, loop


def forbid_steps(monkeypatch):
  """Makes every training step of every stage fail."""
  fit = loop.fit

  def never(state, step):
    raise AssertionError(f"step {step} was taken again")

  monkeypatch.setattr(
    loop, "fit", lambda stage, advance, *rest, **settings: fit(stage, never, *rest, **settings)
  )


def assert_same(left, right):
  assert jax.tree.structure(left) == jax.tree.structure(right)
  for one, other in zip(jax.tree.leaves(left), jax.tree.leaves(right)):
    assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def demonstrations(prompts, answers, kept, pad_id):
  """Returns some demonstrations of ids as a table."""
  piece = tables.piece([prompts, answers], kept, np.zeros(len(kept), bool))
  return tables.in_memory(types.Demonstrations, [piece], pad_id)


def test_imitation_learns_a_rule_and_not_only_its_examples(finished_run, tmp_path):
  # The response is the successor of the prompt's last token: seen on some prompts, asked on others.
  context = tiny_run.with_values(
    finished_run.context, tmp_path, sft__steps=60, sft__learning_rate=0.03, log_every=100
  )
  tokenizer = context.rows.settings.tokenizer
  # Padded like the run's own rows, whose programs are compiled already.
  like = encode.demonstrations(
    context.rows.folds["sft"], context.rows.settings.formats["policy"], context.rows.settings
  ).widths
  prompts = [list(ids) for ids in itertools.product((40, 50, 60), repeat=4)]
  answers = [[ids[-1] + 1, tokenizer.eos_id] for ids in prompts]
  seen = np.random.default_rng(0).random(len(prompts)) < 0.7
  table = demonstrations(prompts, answers, seen, tokenizer.pad_id)
  result = supervised.run(
    context,
    "sft_policy",
    context.models.language,
    objectives.imitation,
    context.initial_policy(),
    table,
    context.config.sft,
  )
  unseen = demonstrations(prompts, answers, ~seen, tokenizer.pad_id).padded(slice(None), like)
  logprobs = context.models.inference.logprobs(result.params, unseen.prompts, unseen.responses)
  assert np.where(unseen.responses.mask, logprobs, 0).sum(axis=1).min() > np.log(0.8)
  assert tiny_run.last_step(tmp_path, "sft_policy") == 60


def test_imitation_of_packed_rows_shows_every_demonstration(finished_run, tmp_path):
  changes = {"sft__packing": True, "sft__packed_length": 192, "sft__steps": 0}
  context = tiny_run.with_values(finished_run.context, tmp_path, **changes)
  table = encode.demonstrations(
    context.rows.folds["sft"], context.rows.settings.formats["policy"], context.rows.settings
  )
  packed = packing.Batches(table, context.config.sft.batch_size, context.seed("sft_policy"), 192)
  tiny_run.imitate(context)
  assert tiny_run.last_step(tmp_path, "sft_policy") == packed.steps(1)
  assert packed.steps(1) < batches.Batches(table, context.config.sft.batch_size, 0).steps(1)
  short = tiny_run.with_values(context, tmp_path / "short", sft__packed_length=20)
  with pytest.raises(ValueError, match="and a packed row 20; use a packed_length of at least"):
    tiny_run.imitate(short)


def test_a_step_is_one_program_for_all_steps_and_after_a_restart(finished_run, tmp_path):
  changes = {"data__length_buckets": False, "sft__steps": 5, "sft__batch_size": 4}
  context = tiny_run.with_values(finished_run.context, tmp_path, **changes)
  job = context.config.sft
  step = supervised.program(context.models.language, objectives.imitation, job, context.mesh)
  before = step._cache_size()
  with interruption.stopping(2), pytest.raises(interruption.Interrupted):
    tiny_run.imitate(context)
  tiny_run.imitate(context)
  assert tiny_run.last_step(tmp_path, "sft_policy") == 5
  assert step._cache_size() == before + 1


@pytest.mark.parametrize(
  "few, is_small, by_length", [(3, True, True), (4, True, False), (4, False, True)]
)
def test_a_short_stage_of_a_small_network_has_one_width(
  finished_run, tmp_path, monkeypatch, few, is_small, by_length
):
  changes = {"data__length_buckets": True, "sft__steps": 4, "sft__batch_size": 2}
  context = tiny_run.with_values(finished_run.context, tmp_path, **changes)
  monkeypatch.setattr(supervised, "FEW_STEPS", few)
  monkeypatch.setattr(pure, "SMALL", 10**9 if is_small else 0)
  pad_id = context.rows.settings.tokenizer.pad_id
  prompts = [[40] * length for length in (2, 30) * 4]
  table = demonstrations(prompts, [[41]] * 8, np.ones(8, bool), pad_id)
  network, job = context.models.language, context.config.sft
  order = supervised.batches_of(context, "sft_policy", network, table, job)
  widths = {order[step].prompts.tokens.shape[1] for step in range(4)}
  assert widths == ({8, 32} if by_length else {32})


def separable(context):
  """Returns the folds with other responses: the same letter, begun kindly or rudely.

  All training rows are the reward fold: of its few alone a network learns the letters by heart.
  """

  def rewrite(row):
    chosen, rejected = f"Have a nice day. {row.chosen}", f"I am too busy. {row.chosen}"
    return dataclasses.replace(row, chosen=chosen, rejected=rejected)

  parts = {name: tuple(map(rewrite, part)) for name, part in context.rows.folds.items()}
  return parts | {"reward": parts["sft"] + parts["reward"] + parts["rl"]}


def test_reward_models_separate_what_is_separable(finished_run, tmp_path):
  learning = {
    f"{stage}__{name}": value
    for stage in ("reward", "gap_reward")
    for name, value in (("steps", 100), ("learning_rate", 0.02))
  }
  context = tiny_run.with_values(
    finished_run.context, tmp_path, log_every=1000, save_every=1000, **learning
  )
  context = tiny_run.changed(context, rows={"folds": separable(context)})
  policy_sft = finished_run.models.policy.sft.params
  pointwise = policy_chain.train_reward(context, start=policy_sft, sampler=policy_sft)
  assert pointwise.facts["accuracy"] == 1.0
  assert pointwise.facts["margin"] > 1.0
  gap = tiny_run.compare(
    context, finished_run.models.policy.reward.params, finished_run.models.improver_sft.params
  )
  assert gap.facts["accuracy"] > 0.9
  gaps = {name: np.array(values) for name, values in gap.facts["gaps"].items()}
  assert metrics.gap_order(**gaps)["holds"]
  assert gaps["lw"].mean() + 1 < gap.facts["zero_point"] < gaps["wl"].mean() - 1


@pytest.mark.parametrize("name", ["reward", "gap_reward"])
def test_rewards_of_rl_have_mean_0_and_deviation_1_on_samples_of_the_sft_model(
  finished_run, copied, sampled, monkeypatch, name
):
  file = copied.workdir / "calibration" / f"{name}.json"
  known = json.loads(file.read_text())
  file.unlink()
  forbid_steps(monkeypatch)
  models = finished_run.models
  train, start = {
    "reward": (
      lambda run, sft: policy_chain.train_reward(run, start=sft, sampler=sft),
      models.policy.sft.params,
    ),
    "gap_reward": (
      lambda run, sft: tiny_run.compare(run, models.policy.reward.params, sft),
      models.improver_sft.params,
    ),
  }[name]
  trained = train(copied, start)
  ((prompts, responses),) = sampled
  scores = copied.models.inference.score(reward.centred(trained), prompts, responses)
  assert scores.mean() == pytest.approx(0, abs=1e-3)
  assert scores.std() == pytest.approx(1, abs=1e-3)
  # What is exported and judges has no bias: its scores differ by one and the same number.
  own = copied.models.inference.score(trained.params, prompts, responses)
  assert trained.params["bias"] == 0 and abs(trained.facts["shift"]) > 1e-3
  np.testing.assert_allclose(scores - own, trained.facts["shift"], atol=1e-4)
  # The same samples give the same numbers, to the rounding of another program's sums; and with the
  # file there nothing is sampled.
  for key, number in json.loads(file.read_text()).items():
    jax.tree.map(
      lambda now, then: np.testing.assert_allclose(now, then, 1e-5, 1e-6), number, known.pop(key)
    )
  assert not known
  again = train(copied, start)
  assert len(sampled) == 1
  assert_same(again.params, trained.params)
  assert again.facts == trained.facts


def test_calibration_is_measured_on_prompts_that_no_model_was_trained_on(finished_run):
  folds = finished_run.context.rows.folds
  seen = {row.prompt for part in (folds["sft"], folds["reward"], folds["rl"]) for row in part}
  assert not seen & {row.prompt for row in folds["reward_validation"]}


def test_the_zero_point_is_the_mean_gap_of_identical_pairs(finished_run):
  context, gap_reward = finished_run.context, finished_run.models.gap_reward
  held = context.rows.folds["reward_validation"]
  found = encode.gap_preferences(held, context.rows.settings)
  index = found.contents.index  # less pairs that cutting makes equal
  held = [held[i] for i in index]
  questions = [row.prompt for row in held]
  chosen, rejected = [row.chosen for row in held], [row.rejected for row in held]
  ask = context.models.inference.gaps
  pairs = {"wl": (chosen, rejected), "ww": (chosen, chosen)}
  pairs |= {"ll": (rejected, rejected), "lw": (rejected, chosen)}
  gaps = {name: ask(gap_reward.params, questions, *pair) for name, pair in pairs.items()}
  identical = np.concatenate([gaps["ww"], gaps["ll"]])
  assert identical.std() > 0
  assert gap_reward.facts["zero_point"] == pytest.approx(identical.mean(), abs=1e-4)
  for name, values in gaps.items():
    np.testing.assert_allclose(gap_reward.facts["gaps"][name], values, atol=1e-3)


def test_finished_stages_are_read_back_without_a_step_or_a_sample(
  finished_run, copied, sampled, monkeypatch
):
  forbid_steps(monkeypatch)
  before = tiny_run.files(copied.workdir)
  models = pit.RECIPE.train(copied)
  assert not sampled
  pairs = [
    (getattr(models, name), getattr(finished_run.models, name))
    for name in ("improver_sft", "improver", "gap_reward")
  ]
  pairs += [
    (getattr(models.policy, name), getattr(finished_run.models.policy, name))
    for name in ("sft", "reward", "rl")
  ]
  assert models.ablations.keys() == finished_run.models.ablations.keys()
  pairs += [
    (models.ablations[name], finished_run.models.ablations[name]) for name in models.ablations
  ]
  for one, other in pairs:
    assert_same(one.params, other.params)
    assert one.facts == other.facts
  after = tiny_run.files(copied.workdir)
  del before["seconds.json"], after["seconds.json"]
  assert after == before


@pytest.mark.parametrize(
  ("changed", "named"),
  [
    ({"rl__learning_rate": 0.5}, r"rl\.learning_rate: {} there, 0\.5 now"),
    ({"data__rows": 149}, "data.rows: {} there, 149 now"),
    ({"data__policy_template": "{prompt}?"}, "data.policy_template: {} there, '{{prompt}}\\?' now"),
    ({"curriculum": None}, r"curriculum\[0\]\.steps: {} there, 7 now"),
  ],
)
def test_a_workdir_is_not_continued_under_another_configuration(copied, changed, named):
  config = tiny_run.config(ablations=True, **{k: v for k, v in changed.items() if v is not None})
  (key,) = changed
  old = tiny_run.config().curriculum[0].steps
  if key == "curriculum":
    config.curriculum[0].steps = 7
  else:
    section, name = key.split("__")
    old = copied.config[section][name]
  quoted = repr(old).replace("\\", "\\\\").replace("{", "\\{").replace(".", "\\.")
  with pytest.raises(ValueError, match=named.format(quoted)):
    tiny_run.build(config, copied.workdir)


def test_a_workdir_is_continued_under_other_operations(copied):
  other = {"checkpoints__keep": 5, "profile__stage": "rl_policy"}
  other |= {"save_every": 7, "log_every_rl": 2, "data__cache": "tokens", "mesh__shape": (2, 1, 1)}
  assert not workdirs.is_new(tiny_run.config(ablations=False, **other), copied.workdir)


def test_an_iteration_that_was_recorded_replays_to_the_same_numbers(copied, capsys):
  shutil.rmtree(copied.workdir / "checkpoints" / "rl_policy")
  # The KL of so short a run is noise about 0: whatever its sign, it is beyond one of the limits.
  limits = {"recorder__kl": 1e-9, "recorder__negative_kl": 1e-9}
  context = tiny_run.with_values(copied, copied.workdir, **limits)
  policy_chain.train_policy(context)
  with np.load(copied.workdir / "flight" / f"rl_policy-{tiny_run.STEPS}" / "inputs.npz") as inputs:
    assert set(inputs) >= {"prompts.tokens", "responses.mask", "rewards", "key"}
  replay = flight.Replay("rl_policy", tiny_run.STEPS)
  with flight.replaying(replay), pytest.raises(flight.Replayed) as ended:
    policy_chain.train_policy(context)
  assert ended.value.code == 0, capsys.readouterr().out


@pytest.mark.parametrize("longest", [9, 26, 64])
def test_no_response_is_longer_than_the_configuration_allows(tmp_path, longest):
  context = tiny_run.build(tiny_run.config(data__max_response_length=longest), tmp_path)
  assert context.models.inference.response_length <= longest


def test_a_configuration_that_fails_does_not_claim_the_workdir(tmp_path):
  for wrong in (
    {"data__source": "jsonl:absent.jsonl"},
    {"data__vocabulary": 300, "data__max_prompt_length": 3},  # fails after learning a tokenizer
  ):
    with pytest.raises(ValueError):
      tiny_run.build(tiny_run.config(**wrong), tmp_path / "one")
  built = [tiny_run.build(tiny_run.config(), tmp_path / name) for name in ("one", "other")]
  assert_same(built[0].metadata, built[1].metadata)


def with_template(context):
  form = dataclasses.replace(context.rows.settings.template, policy="Q: {prompt}\nA:")
  settings = dataclasses.replace(context.rows.settings, template=form)
  asking = dataclasses.replace(context.models.inference, settings=settings)
  parts = {"rows": {"settings": settings}, "models": {"inference": asking}}
  return tiny_run.changed(context, **parts), "template", form.hash


def with_other_data(context):
  fingerprint = preferences.fingerprint(context.rows.data.rows[1:])
  data = dataclasses.replace(context.rows.data, fingerprint=fingerprint)
  return tiny_run.changed(context, rows={"data": data}), "data", fingerprint


@pytest.mark.parametrize("change", [with_template, with_other_data])
def test_a_stage_is_not_continued_with_another_template_or_other_data(finished_run, copied, change):
  changed, key, value = change(copied)
  wanted = f'{key} was "{copied.metadata[key]}" when it was saved and is "{value}" now'
  sft = finished_run.models.policy.sft.params
  runs = (
    lambda: tiny_run.imitate(changed),
    lambda: policy_chain.train_reward(changed, start=sft, sampler=sft),
  )
  for run in runs:
    with pytest.raises(ValueError, match=wanted):
      run()


def test_every_stage_has_noise_of_its_own(finished_run):
  names = [path.stem for path in (finished_run.workdir / "metrics").glob("*.jsonl")]
  contexts_by_seed = [
    finished_run.context,
    tiny_run.with_values(finished_run.context, finished_run.workdir, seed=1),
  ]
  seeds = {context.seed(name) for context in contexts_by_seed for name in names}
  assert len(seeds) == 2 * len(names)
  assert finished_run.context.seed("a") == finished_run.context.seed("a")
