"""Recipe `dpo`: the stage against its closed forms, and whole runs."""

import json
import math
import pathlib
import re
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_stages
import tiny
import tiny_run

from pit_jax import configurations, parallel
from pit_jax.exchange import export
from pit_jax.losses import preference
from pit_jax.models import pure
from pit_jax.recipes import finished, running
from pit_jax.recipes import recipe as recipes
from pit_jax.report import presentation, verdict
from pit_jax.rollout import inference
from pit_jax.run import abstract, kinds
from pit_jax.stages import dpo, objectives, supervised, trained
from pit_jax.tools.plan import planning
from pit_jax.training import writers
from pit_jax.types import Preferences

SMALL = {"dpo__steps": tiny_run.STEPS, "dpo__batch_size": 8}
KEY = jax.random.key(0)
ROOT = pathlib.Path(__file__).resolve().parent.parent


def pairs_of(rows=3):
  return Preferences(
    tiny.prompts(1, [3, 1, 2][:rows], 3),
    tiny.responses(2, [4, 2, 3][:rows], 4),
    tiny.responses(3, [1, 4, 2][:rows], 4),
  )


@pytest.fixture(scope="module")
def language():
  model = tiny.language(layers=1)
  return model, *(jax.tree.map(jnp.array, tiny.parameters(model, seed=seed)) for seed in (1, 2))


def referenced(model, params, batch):
  logprobs = objectives.pair_logprobs(model, params, batch)
  names = ("reference_chosen", "reference_rejected")
  return batch.replace(columns=dict(zip(names, logprobs, strict=True)))


@pytest.mark.parametrize("name, least", [("sigmoid", math.log(2)), ("ipo", (1 / 0.6) ** 2)])
def test_a_policy_that_is_its_reference_prefers_nothing(language, name, least):
  model, params, _ = language
  batch = referenced(model, params, pairs_of())
  loss_fn = objectives.policy_pairs(preference.PAIR_LOSSES[name], 0.3, 0.0, 0.0)(model)
  loss, metrics = loss_fn(params, {}, batch, KEY)
  np.testing.assert_allclose(loss, least, rtol=1e-5)
  np.testing.assert_allclose(metrics["margin"], 0.0, atol=1e-5)


def test_the_objective_is_that_of_single_responses(language):
  """One row at a time, without padding: sums of log-probabilities, and α times their mean."""
  model, params, reference = language
  batch = referenced(model, reference, pairs_of())
  batch = batch.replace(columns=batch.columns | {"weight": jnp.array([2.0, 1.0, 1.0])})
  loss_fn = objectives.policy_pairs(preference.sigmoid, 0.3, 0.1, 0.5)(model)
  loss, metrics = loss_fn(params, {}, batch, KEY)

  def logprob(weights, row, responses):
    tokens = [
      int(token)
      for part in (batch.prompts, responses)
      for token, real in zip(part.tokens[row], part.mask[row], strict=True)
      if real
    ]
    count = int(responses.mask[row].sum())
    logits = model.apply(weights, jnp.array([tokens]), jnp.ones((1, len(tokens)), bool))[0]
    logprobs = jax.nn.log_softmax(logits[:-1])[jnp.arange(len(tokens) - 1), jnp.array(tokens[1:])]
    return float(logprobs[-count:].sum()), count

  total = 0.0
  for row, weight in enumerate((2.0, 1.0, 1.0)):
    (chosen, count), (rejected, _) = (
      logprob(params, row, side) for side in (batch.chosen, batch.rejected)
    )
    h = chosen - logprob(reference, row, batch.chosen)[0]
    h -= rejected - logprob(reference, row, batch.rejected)[0]
    right, wrong = (math.log1p(math.exp(-sign * 0.3 * h)) for sign in (1, -1))
    total += weight * (0.9 * right + 0.1 * wrong - 0.5 * chosen / count)
  np.testing.assert_allclose(loss, total / 4, rtol=1e-4)
  assert metrics["weight"] == 4


def test_the_gradient_pushes_the_two_responses_apart(language):
  """Rafailov et al. 2023, section 4: β σ(−β h) times the difference of the two gradients."""
  model, params, reference = language
  batch = referenced(model, reference, pairs_of(rows=1))
  found = jax.grad(
    lambda p: objectives.policy_pairs(preference.sigmoid, 0.3, 0.0, 0.0)(model)(p, {}, batch, KEY)[
      0
    ]
  )(params)

  def ahead(p):
    chosen, rejected = objectives.pair_logprobs(model, p, batch)
    return (chosen - rejected)[0]

  h = ahead(params) - ahead(reference)
  wanted = jax.tree.map(lambda g: -0.3 * jax.nn.sigmoid(-0.3 * h) * g, jax.grad(ahead)(params))
  jax.tree.map(
    lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6), found, wanted
  )


def test_the_reference_is_asked_once_in_the_life_of_a_run(tmp_path):
  config = tiny_run.config("dpo", **SMALL)
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


@pytest.mark.parametrize(
  "key, value, said",
  [
    ("loss", "hinge", "dpo.loss='hinge'; use one of sigmoid, ipo"),
    ("label_smoothing", 0.5, "dpo.label_smoothing=0.5; use 0 or more and less than 0.5"),
    ("beta", 0.0, "dpo.beta=0.0; use more than 0"),
    ("sft_coefficient", -1.0, "dpo.sft_coefficient=-1.0; use 0 or more"),
    ("select", "first", "dpo.select='first'"),
  ],
)
def test_what_cannot_be_trained_is_refused_before(tmp_path, key, value, said):
  with pytest.raises(ValueError, match=said.replace(".", r"\.")):
    tiny_run.build(tiny_run.config("dpo", **SMALL, **{f"dpo__{key}": value}), tmp_path / "run")


@pytest.mark.slow
def test_a_run_trains_reports_exports_and_goes_on(tmp_path, monkeypatch):
  config = tiny_run.config("dpo", **SMALL)
  workdir = tmp_path / "run"
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
    "dpo", **SMALL, data__rows=1_500, dpo__learning_rate=3e-3, sft__learning_rate=3e-3
  ).unlock()
  config.dpo.sft_coefficient = 0.05  # the pairs are to lead, and not the imitation
  config.update_from_flattened_dict({"sft.steps": 60, "dpo.steps": 60, "dpo.evaluate_every": 30})
  context = tiny_run.build(config.lock(), tmp_path / "run")
  context.recipe.train(context)
  rows = writers.read(tmp_path / "run" / "metrics" / "dpo_policy.jsonl")
  accuracy = [row["validation/accuracy"] for row in rows if "validation/accuracy" in row]
  margins = [row["validation/margin"] for row in rows if "validation/margin" in row]
  assert accuracy[-1] > 0.55 and margins[-1] > 0


def test_its_program_is_compiled_from_shapes_alone_and_its_memory_counted():
  config = tiny_run.config("dpo", **SMALL)
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
def test_the_method_of_the_how_to_runs_as_it_stands_there(tmp_path):
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
