"""What a finished study is measured by: both ways of asking, rerankers, what DPO did to pairs."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from pit_jax.data import encode
from pit_jax.evaluate import subject
from pit_jax.feedback import judges, named, verifier
from pit_jax.recipes.cot import arms, rationales
from pit_jax.rollout import implicit
from pit_jax.stages import reward, trained
from pit_jax.statistics import candidates, reranking
from pit_jax.tasks import verify
from pit_jax.types import Params

GREEDY = 200  # stream of noise, which greedy answers do not read


@dataclasses.dataclass(frozen=True)
class Study:
  """All that a run trains, and what it was trained on."""

  policies: dict[str, trained.Trained]  # by arm
  reward: reward.RewardModel  # R_P, of the same pairs
  teacher: Mapping[str, Any]  # what became of the teacher's rationales
  found: rationales.Sorted


def answers(
  run: subject.Policies, name: str, end: str, stream: int, temperature: float | None = None
) -> list[str]:
  """Returns what an arm answers to the held-out prompts with an end; each stream is a draw."""
  suite = run.suite
  questions = [arms.ended(prompt, end) for prompt in suite.questions]
  key = jax.random.fold_in(suite.key, stream)
  at = suite.temperature if temperature is None else temperature
  return suite.improver.inference.answer(run.models[name], questions, key, at)


def modes(run: subject.Policies) -> dict:
  """Returns, by arm, way of asking and kind of prompts, the share of right answers.

  Prompts are those that stages may learn from, `seen` in kind, and the `unseen`. `right` is at the
  run's temperature and `greedy` at 0; `sound`, where a judge of that name scores, also has every
  call right.
  """
  c = run.context.config.cot
  judged = rationales.passing(run.context)
  questions = run.suite.questions
  is_unseen = np.array([*map(rationales.unseen(run.context), questions)])
  parts = {"seen": ~is_unseen, "unseen": is_unseen}
  sound = next((one for one in run.suite.scoring if one.name == "sound"), None)
  rows = []
  for name in run.models:
    for mode, end in (("steps", c.steps_end), ("direct", c.short_end)):
      texts = run.systems[name if mode == "steps" else f"{name}{arms.DIRECT}"]
      shares = {
        "right": judged(questions, texts),
        "greedy": judged(questions, answers(run, name, end, GREEDY, 0.0)),
      }
      shares |= {"sound": sound.score(questions, texts)} if sound and mode == "steps" else {}
      for part, places in parts.items():
        if places.any():
          told = {key: float(np.nanmean(one[places])) for key, one in shares.items()}
          rows.append({"system": name, "mode": mode, "prompts": part,
                       "count": int(places.sum()), **told})  # fmt: skip
  return {"modes": rows}


def rerankers(run: subject.Policies) -> dict:
  """Returns how right the choice of each reranker is among candidates of `sft_both`.

  `right` is the share of prompts whose chosen rationale has the right answer, and a comparison with
  the majority's choice says how surely it differs. `ordered` is how often a right candidate is
  scored above a wrong one of its prompt: ½ is chance.
  """
  c = run.context.config
  questions = run.suite.questions
  policy = run.models[arms.BOTH]
  texts = rationales.drawn(run.context, policy, "candidates", questions, c.cot.candidates)
  flat = [text for several in texts for text in several]
  repeated = [prompt for prompt in questions for _ in range(c.cot.candidates)]
  right = rationales.passing(run.context)(repeated, flat).reshape(len(questions), -1)
  shown = [arms.ended(prompt, c.cot.steps_end) for prompt in repeated]
  # Of a function that verifies, the form is not known, and words are compared.
  form = c.feedback.raters[c.cot.verifier].get("form", "text")
  finals = [[verify.final(text, form) for text in several] for several in texts]
  choices = {"majority": reranking.majority(finals)}
  scores = {
    name: score(shown, flat).reshape(right.shape) for name, score in _scores(run, policy).items()
  }
  choices |= {name: candidates.best(one.T) for name, one in scores.items()}

  everyone = np.arange(len(questions))
  hits = {name: right[everyone, places] for name, places in choices.items()}
  hits |= {"one": right[:, 0], "any": np.nanmax(right, axis=1)}
  known = ~np.isnan(right).any(axis=1)
  unknown = dict.fromkeys(np.flatnonzero(~known).tolist(), verifier.ABSENT)
  verified = named.build(run.context, "raters", c.cot.verifier)
  rows = []
  for name, hit in hits.items():
    compared = verified.count(judges.Verdicts(hit - hits["majority"], failures=unknown))
    row = {"chooser": name, "right": float(hit[known].mean()), **vars(compared)}
    if name in scores:
      share, bounds = reranking.ordered(scores[name][known], right[known] == 1)
      row |= {"ordered": share, "ordered_ci95": bounds}
    rows.append(row)
  return {"rerankers": rows}


def _scores(run: subject.Policies, reference: Params) -> dict[str, Callable[..., np.ndarray]]:
  """Returns what scores candidates, by name: (prompts, texts) → Float[N]."""
  asking = run.context.models.inference
  beta = run.context.config.dpo.beta

  def implied(params):
    rewarding = implicit.Reward(asking, params, reference)
    return lambda prompts, texts: beta * rewarding.rate(prompts, prompts, texts)

  model = run.study.reward
  return {
    "implicit": implied(run.models[arms.DPO]),
    "implicit_random": implied(run.models[arms.RANDOM]),
    judges.REWARD: reward.rating(run.context, model),
    "likelihood": lambda prompts, texts: asking.likelihoods(reference, prompts, texts),
  }


def rationales_told(run: subject.Policies) -> dict:
  """Returns what became of rationales, and how the arms moved the log-probability of pairs.

  `rationales` counts the teacher's and the policy's own; `log_ratios` has, by arm, the mean of
  log π − log π_ref of the right and of the wrong rationales of pairs that validate, in nats: both
  may fall while their difference grows.
  """
  study = run.study
  counted = [{"of": "teacher", **study.teacher}, {"of": arms.BOTH, **study.found.counts}]
  held = study.found.fold.validation
  settings = run.context.rows.settings
  table = encode.preferences(held, settings)[:]
  asking = run.context.models.inference

  def logprobs(params):
    sides = (table.chosen, table.rejected)
    return [asking.logprobs(params, table.prompts, side).sum(axis=1) for side in sides]

  before = logprobs(run.models[arms.BOTH])
  rows = []
  for name in [*(arm.system for arm in arms.of(run.context.config)), arms.REJECTION]:
    moved = [now - was for now, was in zip(logprobs(run.models[name]), before, strict=True)]
    ahead = float((moved[0] > moved[1]).mean())
    rows.append({"system": name, "pairs": len(held), "ahead": ahead,
                 "right": float(moved[0].mean()), "wrong": float(moved[1].mean())})  # fmt: skip
  return {"rationales": counted, "log_ratios": rows}
