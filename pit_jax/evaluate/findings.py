"""What a finished run found on held-out prompts, as the results of report.py."""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pit_jax import hosts, improve
from pit_jax.data import rows as data_rows
from pit_jax.evaluate import judges, metrics, suite
from pit_jax.stages import context as contexts
from pit_jax.training import timing, writers

CURVES = {
  "rl": ("objective/score", "objective/kl", "objective/kl_coef", "tokens/response_length"),
  "sft": ("loss",),
  "reward": ("loss", "accuracy"),
}
# Streams of noise: one number per experiment, so that adding one changes no other.
ORIGINAL, RESAMPLED, SFT, IMPROVER_SFT, ABLATIONS = 1, 2, 3, 4, 100
ROUNDS, TEMPERATURES = 200, 300

INDEPENDENT, PUBLISHED = "R_judge", "R_public"
NO_GOLD = (
  "This source has no gold score. The judges are R_P and R_PIT, which also trained the models: "
  "a gain under them shows that training did what it was asked, not that people would agree."
)
ONLY_A_MODEL = (
  "This source has no gold score. {} is a reward model that no model here was trained with: a gain "
  "under it is no artefact of R_P or R_PIT, but it is a model's opinion, not people's."
)


def _timed(of: Callable[..., dict]) -> Callable[..., dict]:
  """Counts the time of an evaluation among the run's seconds, and those among its results."""

  @functools.wraps(of)
  def timed(context, models):
    with context.timed("evaluation"):
      results = of(context, models)
    kept = hosts.agree(timing.goodput(context.workdir))
    return results | {"seconds": context.read_json("seconds.json"), "goodput": kept}

  return timed


@_timed
def of_policy(context: contexts.Context, policy: Any) -> dict:
  """Returns the results of the policy's chain (recipe rlhf)."""
  experiments = _suite(context, policy, gap_reward=None, improver=None)
  texts = _policy_texts(experiments, policy)
  pairs = [("original", "policy_sft"), ("original", "chosen"), ("policy_resampled", "original")]
  return _results(context, experiments, texts, pairs, _facts(policy))


@_timed
def of_improver(context: contexts.Context, models: Any) -> dict:
  """Returns the results of a run of PIT."""
  policy, c = models.policy, context.config.evaluation
  experiments = _suite(context, policy, models.gap_reward, models.improver)
  texts = _policy_texts(experiments, policy)
  original = texts["original"]
  texts["improver_sft"] = experiments.improved(models.improver_sft, original, IMPROVER_SFT)
  rounds, made = experiments.rounds(original, c.rounds, ROUNDS)
  texts["pit"] = made.texts[1]
  for index, (name, params) in enumerate(models.ablations.items()):
    ask = experiments.answers if name == "rlhf_longer" else _of(experiments.improved, original)
    texts[name] = ask(params, ABLATIONS + index)
  pairs = [(name, "original") for name in texts if name != "original"]
  pairs += [("original", "policy_sft"), ("original", "chosen")]
  pairs += [("pit", name) for name in ("improver_sft", *models.ablations)]
  facts = _facts(policy) | {"R_PIT": dict(models.gap_reward.facts)}
  gaps = {name: np.array(values) for name, values in facts["R_PIT"].pop("gaps").items()}
  results = _results(context, experiments, texts, pairs, facts)
  few, sampled = experiments.first(c.temperature_prompts), {experiments.temperature: texts}
  curve, at = few.temperatures(policy.rl, c.temperatures, TEMPERATURES, sampled)
  results["comparisons"] += _best_against_best(few, curve, at)
  results["gap_order"] = metrics.gap_order(**gaps) | {"histogram": gaps}
  results["reward_models"]["R_PIT"]["sign_agreement"] = _sign_agreement(experiments, made)
  results |= {"rounds": rounds, "temperature": curve}
  results["samples"] = experiments.samples(made, _held_out(context))
  return results


def _suite(context, policy, gap_reward, improver) -> suite.Suite:
  inference = context.inference
  available = [judges.gold()] if context.config.data.source == "synthetic" else []
  if context.judge:
    available.append(judges.reward_model(*context.judge.load(inference), PUBLISHED))
  if policy.judge:
    available.append(judges.reward_model(inference, policy.judge.params, INDEPENDENT))
  available.append(judges.reward_model(inference, policy.reward.params))
  if gap_reward is not None:
    available.append(judges.gap_model(inference, gap_reward.params))
  models = improve.Improver(
    inference=inference,
    policy=policy.rl,
    improver=improver,
    gap_reward=gap_reward.params if gap_reward else None,
    zero_point=gap_reward.facts["zero_point"] if gap_reward else 0.0,
    margin=context.config.evaluation.margin,
  )
  questions = [row.prompt for row in _held_out(context)]
  key = context.key("evaluation")
  return suite.Suite(models, questions, available, key, context.config.rl.temperature)


def _facts(policy) -> dict[str, dict]:
  """Returns what is known of the reward models of the policy's chain."""
  models = {"R_P": policy.reward, INDEPENDENT: policy.judge}
  return {name: model.facts for name, model in models.items() if model}


def _held_out(context: contexts.Context) -> Sequence[data_rows.Preference]:
  """The held-out rows that are evaluated, each prompt once."""
  unique = {row.prompt: row for row in context.folds.held_out}
  return list(unique.values())[: context.config.evaluation.prompts]


def _policy_texts(experiments: suite.Suite, policy) -> dict[str, list[str]]:
  return {
    "original": experiments.answers(policy.rl, ORIGINAL),
    "policy_resampled": experiments.answers(policy.rl, RESAMPLED),
    "policy_sft": experiments.answers(policy.sft, SFT),
  }


def _of(improved, drafts):
  return lambda params, stream: improved(params, drafts, stream)


def _results(
  context: contexts.Context,
  experiments: suite.Suite,
  texts: Mapping[str, list[str]],
  pairs: Sequence[tuple[str, str]],
  facts: Mapping[str, dict],
) -> dict:
  data = {"chosen": [row.chosen for row in _held_out(context)]}
  data["rejected"] = [row.rejected for row in _held_out(context)]
  everything = {**data, **texts}
  first = experiments.judges[0].name
  only_a_model = ONLY_A_MODEL.format(first)
  notes = {"gold": [], PUBLISHED: [only_a_model], INDEPENDENT: [only_a_model]}
  return {
    "recipe": context.config.recipe,
    "systems": {name: experiments.describe(words) for name, words in everything.items()},
    "comparisons": [row for a, b in pairs for row in experiments.compare(a, b, everything)],
    "reward_models": {name: dict(known) for name, known in facts.items()},
    "stages": _stages(context),
    "data": _data(context),
    "config": json.loads(context.config.to_json()),
    "notes": notes.get(first, [NO_GOLD]),
  }


def _best_against_best(experiments: suite.Suite, curve: list[dict], texts) -> list[dict]:
  """Compares pit with original, each at the temperature that R_P likes best.

  The gold score chooses nothing, not even a temperature: it would favour whoever it chose for.
  """
  best = {
    system: max((row for row in curve if row["system"] == system), key=lambda row: row["score_R_P"])
    for system in ("pit", "original")
  }
  chosen = {name: texts[best[name]["t"]][name] for name in best}
  rows = experiments.compare("pit", "original", chosen)
  at = {f"temperature_{name}": best[name]["t"] for name in best}
  return [row | {"temperature": "best"} | at for row in rows]


def _sign_agreement(experiments: suite.Suite, made: improve.Rounds) -> dict | None:
  """How often R_PIT has the sign of the gold difference on pairs (y_1, y_0)."""
  judge = experiments.judges[0]
  if judge.name != "gold":
    return None
  difference = judge.difference(experiments.questions, made.texts[1], made.texts[0])
  return metrics.sign_agreement(made.gaps[0], difference)


def _stages(context: contexts.Context) -> dict:
  stages = {}
  for path in sorted(
    (context.workdir / "metrics").glob("*.jsonl"), key=lambda p: p.stat().st_mtime
  ):
    name, logged = path.stem, writers.read(path)
    kind = "sft" if name.startswith("sft") else "reward" if "reward" in name else "rl"
    curves = {
      metric: [[row["step"], row[metric]] for row in logged if row.get(metric) is not None]
      for metric in CURVES[kind]
    }
    stages[name] = {"kind": kind, "steps": logged[-1]["step"], "curve": curves}
  return stages


def _data(context: contexts.Context) -> dict:
  folds = dataclasses.asdict(context.folds)
  settings = context.settings
  return {
    "source": context.data.source,
    "rows": len(context.data.rows),
    "folds": {name: len(part) for name, part in folds.items() if part},
    "skipped": context.data.skipped,
    "template_hash": settings.template.hash,
    "tokenizer": settings.tokenizer.fingerprint,
    **context.over_long(),
  }
