"""Recipe `dpo`: what is refused, what the reference is asked, and whole runs."""

import json
import pathlib
import re
import shutil
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_rl
import test_stages
import tiny_run

from pit_jax import configurations, parallel
from pit_jax.exchange import export
from pit_jax.models import pure
from pit_jax.recipes import finished, running
from pit_jax.recipes import recipe as recipes
from pit_jax.report import presentation, verdict
from pit_jax.rollout import inference
from pit_jax.run import abstract, checks, kinds
from pit_jax.stages import dpo, objectives, supervised, trained
from pit_jax.tools.plan import planning
from pit_jax.training import writers

ROOT = pathlib.Path(__file__).resolve().parent.parent


def test_the_reference_is_asked_once_in_the_life_of_a_run(tmp_path):
  config = tiny_run.config("dpo")
  context = tiny_run.build(config, tmp_path / "run")
  start = context.initial_policy()
  asked = []

  def keep(*given, **named):
    asked.append(given[5])
    return trained.Trained(start, {})

  given = {"start": start, "reference": start, "job": config.dpo}
  with mock.patch.object(supervised, "run", keep):
    dpo.run(context, "dpo_policy", context.rows.fold("preference"), **given)
    with mock.patch.object(inference.Inference, "logprobs", side_effect=AssertionError):
      dpo.run(context, "dpo_policy", context.rows.fold("preference"), **given)
  first, again = (table[:] for table in asked)
  assert len(asked[0]) == len(context.rows.fold("preference").rows)
  for name in ("reference_chosen", "reference_rejected"):
    np.testing.assert_array_equal(first.columns[name], again.columns[name])
  logprobs = objectives.pair_logprobs(
    context.models.language, start, jax.tree.map(jnp.asarray, first)
  )
  np.testing.assert_allclose(first.columns["reference_chosen"], logprobs[0], rtol=1e-4, atol=1e-3)
  np.testing.assert_allclose(first.columns["reference_rejected"], logprobs[1], rtol=1e-4, atol=1e-3)


def test_an_improver_is_to_write_the_better_response_after_the_worse_one(tmp_path):
  """The loss of its stage, row by row without padding, from what x and the draft look like."""
  context = tiny_run.build(tiny_run.config("pit"), tmp_path / "run")
  config = context.config.dpo
  start = context.initial_policy()
  with mock.patch.object(supervised, "run", return_value=trained.Trained(start, {})) as train:
    fold = context.rows.fold(config.fold)
    given = {"start": start, "reference": start, "job": config, "prompts": kinds.IMPROVER}
    dpo.run(context, "dpo_improver", fold, **given)
  _, _, model, objective, _, table, _ = train.call_args.args

  policy = jax.tree.map(lambda x: 1.1 * x, start)
  loss, _ = objective(model)(policy, {}, jax.tree.map(jnp.asarray, table[:4]), None)
  settings = context.rows.settings

  def logprob(params, row, response):
    (shown,) = settings.encode(
      settings.formats["improver"].conversations([row.prompt], [row.rejected])
    ).ids
    (ids,) = settings.encode_responses([response])[0].ids
    tokens = jnp.array([shown + ids])
    logits = model.apply(params, tokens, jnp.ones(tokens.shape, bool))[0, len(shown) - 1 : -1]
    return np.asarray(jax.nn.log_softmax(logits))[np.arange(len(ids)), ids]

  wanted = []
  for place in table.contents.index[:4]:
    row = fold.rows[place]
    chosen, rejected = (
      [logprob(params, row, response).sum() for params in (policy, start)]
      for response in (row.chosen, row.rejected)
    )
    h = (chosen[0] - chosen[1]) - (rejected[0] - rejected[1])
    imitated = -logprob(policy, row, row.chosen).mean()
    wanted.append(np.log1p(np.exp(-config.beta * h)) + config.sft_coefficient * imitated)
  np.testing.assert_allclose(loss, np.mean(wanted), rtol=1e-4)


def test_an_improver_sees_the_labels_of_the_gap_model_and_a_restart_changes_no_bit(
  finished_run, copied
):
  config = copied.config
  assert config.dpo.fold == config.gap_reward.fold
  models = finished_run.models
  start = models.improver_sft.params
  before = copied.workdir / "checkpoints" / "dpo_improver"
  shutil.rmtree(before)
  context = tiny_run.with_values(copied, copied.workdir, save_every=1, checkpoints__keep=9)
  given = {"start": start, "reference": start, "job": config.dpo, "prompts": kinds.IMPROVER}
  fold = context.rows.fold("reward")
  result = dpo.run(context, "dpo_improver", fold, **given)
  test_stages.assert_same(result.params, models.ablations["improver_dpo"].params)
  whole = test_rl.arrays(context.workdir, "dpo_improver", tiny_run.STEPS)
  assert whole != test_rl.arrays(context.workdir, "dpo_improver", 1)

  for step in range(2, tiny_run.STEPS + 1):
    shutil.rmtree(before / str(step))
  dpo.run(context, "dpo_improver", fold, **given)
  assert test_rl.arrays(context.workdir, "dpo_improver", tiny_run.STEPS) == whole


@pytest.mark.parametrize(
  "key, value, said",
  [
    ("loss", "nca", "dpo.loss='nca'; use one of sigmoid, robust, ipo, hinge, kto, simpo, orpo"),
    ("loss", "simpo", "dpo.loss='simpo' with dpo.gamma=0.0: a part of the loss; use more than 0"),
    ("gamma", 0.5, "dpo.gamma=0.5: the loss does not read it; use 0.0"),
    ("undesirable_weight", 2.0, "undesirable_weight=2.0: the loss does not read it; use 1.0"),
    ("sft_reduction", "token", "dpo.sft_reduction='token'; use one of mean, sum"),
    ("label_smoothing", 0.5, "dpo.label_smoothing=0.5; use 0 or more and less than 0.5"),
    ("beta", 0.0, "dpo.beta=0.0; use more than 0"),
    ("sft_coefficient", -1.0, "dpo.sft_coefficient=-1.0; use 0 or more"),
    ("select", "first", "dpo.select='first'"),
  ],
)
def test_what_cannot_be_trained_is_refused_before(tmp_path, key, value, said):
  with pytest.raises(ValueError, match=said.replace(".", r"\.")):
    tiny_run.build(tiny_run.config("dpo", **{f"dpo__{key}": value}), tmp_path / "run")


@pytest.mark.parametrize(
  "loss, changes, said",
  [
    ("orpo", {"sft_coefficient": 0.0}, "dpo.sft_coefficient=0.0: a part of the loss"),
    ("orpo", {"reference_free": True}, "dpo.reference_free=True: the loss does not read it"),
    ("kto", {"label_smoothing": 0.1}, "dpo.label_smoothing=0.1: the loss does not read it"),
    ("kto", {"accumulation": 8}, "dpo.batch_size=8 and dpo.accumulation=8: its KL is estimated"),
    (
      "sigmoid",
      {"reference_free": True, "importance_correction": True},
      "dpo.importance_correction=True with dpo.reference_free=True",
    ),
  ],
)
def test_what_a_loss_does_not_go_with_is_refused_before(loss, changes, said):
  job = tiny_run.config("dpo", dpo__loss=loss).dpo
  job.update(changes)
  kind = recipes.named("dpo").kinds["dpo"]
  (problem,) = kind.problems("dpo", job)
  assert said in problem


def test_a_section_of_an_earlier_version_is_told_what_it_lacks():
  config = tiny_run.config("dpo").unlock()
  del config.dpo.gamma
  with pytest.raises(ValueError, match="dpo.gamma is missing, as in a configuration of an earlier"):
    checks.values(config, recipes.named("dpo"))


@pytest.mark.parametrize(
  "loss, changes",
  [("kto", {}), ("simpo", {"gamma": 0.5}), ("orpo", {}), ("sigmoid", {"reference_free": True})],
)
def test_every_form_of_loss_trains_and_asks_its_reference_as_little_as_it_can(
  tmp_path, loss, changes
):
  changes = {f"dpo__{key}": value for key, value in changes.items()}
  config = tiny_run.config("dpo", dpo__loss=loss, **changes)
  context = tiny_run.build(config, tmp_path)
  start = context.initial_policy()
  fold = context.rows.fold("preference")
  trained = dpo.run(context, "dpo_policy", fold, start=start, reference=start, job=config.dpo)
  same = jax.tree.map(lambda one, other: bool((one == other).all()), start, trained.params)
  assert not all(jax.tree.leaves(same))

  rows = tmp_path / "rows" / "dpo_policy_reference.jsonl"
  assert rows.exists() == (loss == "kto")
  last = writers.read(tmp_path / "metrics" / "dpo_policy.jsonl")[-1]
  ratio = "logratio" if loss == "kto" else "logprob"
  assert {"validation/loss", f"validation/chosen_{ratio}"} <= last.keys()
  assert ("validation/kl" in last) == (loss == "kto")


@pytest.mark.slow
def test_a_run_trains_reports_exports_and_goes_on(tmp_path, monkeypatch):
  config = tiny_run.config("dpo")
  workdir = tmp_path / "run"
  running.run(config, workdir, stages_only=True)
  assert not {"models", "report"} & {path.name for path in workdir.iterdir()}
  running.run(config, workdir)

  results = json.loads((workdir / "report" / "results.json").read_text())
  assert results["recipe"] == "dpo" and results["headline"] == ["dpo", "policy_sft"]
  assert {"dpo", "policy_sft", "dpo_resampled", "chosen"} <= results["systems"].keys()
  curve = results["stages"]["dpo_policy"]["curve"]
  assert {"loss", "margin", "chosen_logprob", "rejected_logprob"} <= curve.keys()
  last = writers.read(workdir / "metrics" / "dpo_policy.jsonl")[-1]
  assert {"validation/loss", "validation/accuracy", "validation/chosen_logratio"} <= last.keys()
  page = (workdir / "report" / "report.html").read_text()
  for absent in ("RLHF", "R_PIT", "M_PIT"):
    assert absent not in page and absent not in verdict.headline(results, presentation.ANY)

  exported = export.load_one(workdir, "policy", mesh=parallel.make_mesh((1, 1, 1)))
  assert not pure.is_scalar(exported.model)
  test_stages.forbid_steps(monkeypatch)
  finished.evaluate(workdir, "main")
  again = json.loads((workdir / "report" / "results.json").read_text())
  assert again["comparisons"] == results["comparisons"]


@pytest.mark.slow
def test_training_raises_the_accuracy_on_pairs_that_it_did_not_see(tmp_path):
  """On letters of which the worse ones lack what the better ones have, a hundred steps show it."""
  config = tiny_run.config(
    "dpo", data__rows=1_500, dpo__learning_rate=3e-3, sft__learning_rate=3e-3
  ).unlock()
  config.dpo.sft_coefficient = 0.05  # the pairs are to lead, and not the imitation
  config.update_from_flattened_dict({"sft.steps": 60, "dpo.steps": 60, "dpo.evaluate_every": 30})
  context = tiny_run.build(config.lock(), tmp_path / "run")
  context.recipe.train(context)
  rows = writers.read(tmp_path / "run" / "metrics" / "dpo_policy.jsonl")
  accuracy = [row["validation/accuracy"] for row in rows if "validation/accuracy" in row]
  margins = [row["validation/margin"] for row in rows if "validation/margin" in row]
  assert accuracy[-1] > 0.55 and margins[-1] > 0


@pytest.mark.parametrize("loss", ["sigmoid", "kto"])
def test_its_program_is_compiled_from_shapes_alone_and_its_memory_counted(loss):
  config = tiny_run.config("dpo", dpo__loss=loss)
  recipe = recipes.of(config)
  arrays = planning.arrays(config, recipe, jax.devices()[:1], None)
  stage = recipe.stages(config)[-1]
  kind = kinds.kind_of(recipe, config, stage)
  ((make, *given),) = kind.programs(arrays, stage)
  program = make(arrays, *given)
  made = program.function.lower(*program.arguments).compile()
  assert made.memory_analysis().argument_size_in_bytes > 0 and program.flops > 0
  (kept,) = kind.needs(arrays, stage).values()
  state = abstract.device_bytes(arrays.state(arrays.language, config.dpo))
  assert kept["parameters and optimiser state"] == state


@pytest.mark.slow
def test_the_method_of_the_how_to_runs_as_it_stands_there(unrendered, tmp_path):
  page = (ROOT / "docs" / "howto" / "adding_a_method.md").read_text(encoding="utf-8")
  (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
  path = tmp_path / "hinge.py"
  path.write_text(code, encoding="utf-8")
  config = configurations.load(str(path)).unlock()
  small = {name: value for name, value in tiny_run.SMALL.items() if name.split(".")[0] in config}
  steps = {"pairs.steps": tiny_run.STEPS, "pairs.batch_size": 8}
  config.update_from_flattened_dict(small | steps)
  running.run(config.lock(), tmp_path / "run")
  results = json.loads((tmp_path / "run" / "report" / "results.json").read_text())
  assert results["headline"] == ["hinge", "policy_sft"]
  assert results["stages"]["hinge_policy"]["curve"]["margin"]
  hinge = recipes.of(config).kinds["dpo"]
  with pytest.raises(StopIteration):
    next(hinge.problems("pairs", config.pairs))
