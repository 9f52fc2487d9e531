"""Whether the reward model of a run reads its principles, and whether policies follow them."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from pit_jax.data import principles
from pit_jax.evaluate import seeds, subject
from pit_jax.feedback import judges, labels
from pit_jax.improve import improvement
from pit_jax.recipes.salmon import banks, conditioned, implicit, improving, labelling
from pit_jax.run import context as contexts
from pit_jax.stages import reward, trained
from pit_jax.statistics import steering
from pit_jax.tasks import synthetic

# Streams of noise; see `subject`.
PAIRS = (701, 702)
IMPROVED = 703
UNLABELLED = "unlabelled"


@dataclasses.dataclass(frozen=True)
class Study:
  """All that a run trains, and the labels that it was trained on."""

  labelled: labelling.Labelled
  sampled: trained.Trained  # the policy that was sampled, and that RL begins with
  rewards: dict[str, conditioned.Model]  # by stage
  policies: dict[str, trained.Trained]  # by system
  chain: improving.Improving | None = None


@dataclasses.dataclass(frozen=True)
class Subject(subject.Policies):
  """A finished run, with the rows that its reward models learnt from."""

  study: Study = dataclasses.field(kw_only=True)

  @property
  def bank(self) -> principles.Bank:
    """The principles of the run."""
    return self.study.labelled.bank


def measure_rewards(run: Subject) -> dict:
  """Returns how right the reward models are by single principles, and in conflicts of two.

  They are asked about two samples of `sft` for held-out prompts. Which one is better by a principle
  the embedded task's checks say, elsewhere the judge of the labels, which is then no independent
  one; `told_by` names who. A reward model that shows no principles has one margin for all. Where
  rewards are likelihoods, `unlabelled` is that of `sft`: what it reads before any label.
  """
  questions = run.suite.questions[: run.context.config.salmon.pairs]
  few = dataclasses.replace(run.suite, questions=questions)
  a, b = (few.answers(run.study.sampled.params, stream) for stream in PAIRS)
  pairs = [labels.Pair(*row) for row in zip(questions, a, b, strict=True) if row[1] != row[2]]
  truth, told_by = _truth(run, pairs)
  names = [one.name for one in run.bank.principles]

  rows = []
  conflicting = []
  for model, reward_model in _asked(run.study).items():
    plain = _margins(run, model, reward_model, pairs, is_negated=False)
    negated = _margins(run, model, reward_model, pairs, is_negated=True)
    for kind, told in (("plain", steering.right(plain, truth)),
                       ("negated", steering.right(negated, -truth))):  # fmt: skip
      rows += [{"model": model, "principle": name, "shown": kind, **one}
               for name, one in zip(names, told, strict=True)]  # fmt: skip
    conflicting.append({"model": model, **steering.conflicts(plain, truth)})

  counts = run.study.labelled.counts
  asked = {"told_by": told_by, "pairs": len(pairs), "rows": counts}
  return {"principles": rows, "conflicts": conflicting, "conditioning": asked}


def _asked(study: Study) -> dict[str, conditioned.Model]:
  """Returns the reward models of a study, and the one that it had before any label."""
  policy = study.sampled.params
  if not isinstance(study.rewards["reward"], implicit.Implicit):
    return study.rewards
  return {**study.rewards, UNLABELLED: implicit.Implicit(policy, {}, policy)}


def _truth(run: Subject, pairs: Sequence[labels.Pair]) -> tuple[np.ndarray, str]:
  """Returns who of each pair is better by each principle, −1, 0 or 1, Int[N K], and who says so."""
  names = [one.name for one in run.bank.principles]
  if is_checked(run):
    passed = [[synthetic.checks(pair.prompt, text) for text in (pair.a, pair.b)] for pair in pairs]
    told = [[int(one[name]) - int(other[name]) for name in names] for one, other in passed]
    return np.array(told, int).reshape(-1, len(names)), judges.GOLD
  orders = labelling.scores(run.context, "held_out_scores", run.bank, pairs)
  means = np.nan_to_num(orders.mean(axis=2))
  return np.sign(means).astype(int), run.context.config.salmon.judge


def is_checked(run: Subject) -> bool:
  """Returns whether the principles are checks of the embedded task."""
  is_task = run.context.config.data.source == "synthetic"
  return is_task and all(one.name in synthetic.WEIGHTS for one in run.bank.principles)


def _margins(
  run: Subject,
  name: str,
  model: conditioned.Model,
  pairs: Sequence[labels.Pair],
  *,
  is_negated: bool,
) -> np.ndarray:
  """Returns by how much a reward model prefers a to b under each principle alone, Float[N K]."""
  asking = conditioned.reading(run.context, run.bank).models.inference
  questions = [pair.prompt for pair in pairs]
  columns = []
  for principle in run.bank.principles:
    shown = [principles.Shown(principle, is_negated)]
    if name == "reward_plain":
      if columns:  # it is shown none, and says the same whichever it is
        columns.append(columns[0])
        continue
      shown = []
    scores = [
      conditioned.rated(asking, model, run.bank, questions, answers, [shown] * len(pairs))
      for answers in ([pair.a for pair in pairs], [pair.b for pair in pairs])
    ]
    columns.append(scores[0] - scores[1])
  return np.stack(columns, axis=1)


def measure_policies(run: Subject) -> dict:
  """Returns what every policy's list does to each check, and how far the policies went.

  `policies` has of each system its list and its KL to `sft`: the mean of log π(y | x) − log
  π_sft(y | x) over its own answers, without their ends, in nats each. `steering` has of each
  principle the share of answers that pass its check under the lists that have it, under those that
  do not mention it, and under those that have it negated, with intervals over prompts.
  """
  ask = run.context.models.inference.likelihoods
  questions = run.suite.questions
  lists = {name: banks.shown(run.bank, listed)
           for name, listed in banks.lists(run.context.config).items()}  # fmt: skip
  rows = []
  for system, shown in lists.items():
    answers = run.systems[system]
    nats = [ask(model, questions, answers) for model in (run.models[system], run.models["sft"])]
    said = [one.name for one in shown]
    rows.append({"system": system, "list": said, "kl": float((nats[0] - nats[1]).mean())})
  told = {"policies": rows}
  return told | ({"steering": _steering(run, lists, run.systems)} if is_checked(run) else {})


def measure_improver(run: Subject) -> dict:
  """Returns what the improver makes of the same drafts under every list, after one round.

  `improved` has the score and the share that passes each check, where the task has some, of the
  drafts (version `draft`), which are answers of `sft`, and of each list of three versions: the one
  that was `made`; the one that the stop rule leaves (`kept`), with the `share` of drafts that it
  replaces; and what `sft` answers `anew`, shown the list and no draft. `improved_steering` has of
  each principle what `steering` has, of the versions `made` and of those `anew`.
  """
  models = run.study.chain.models(run.context, run.models["sft"])
  questions, drafts = run.suite.questions, run.systems["sft"]
  lists = {name: banks.shown(run.bank, listed)
           for name, listed in banks.lists(run.context.config).items() if listed}  # fmt: skip
  rows = [{"list": [], "version": "draft", "share": None, **_checked(run, drafts)}]
  versions: dict[str, dict] = {"made": {}, "anew": {}}
  # The same noise under every list: what differs is what they say.
  key = jax.random.fold_in(run.suite.key, IMPROVED)
  noise = jax.random.fold_in(key, 1)  # that of the round
  temperature = run.suite.temperature
  for name, shown in lists.items():
    under = dataclasses.replace(models, show=functools.partial(run.bank.show_all, shown=shown))
    how = {"rounds": 1, "key": key, "temperature": temperature}
    made = improvement.improve(under, questions, drafts, **how)
    asked = run.bank.show_all(questions, shown)
    anew = models.inference.answer(run.models["sft"], asked, noise, temperature)
    versions["made"][name], versions["anew"][name] = made.texts[1], anew
    said = [one.name for one in shown]
    texts = {"made": made.texts[1], "kept": made.with_stop(1), "anew": anew}
    for version, several in texts.items():
      share = float(made.kept.mean()) if version == "kept" else None
      told = {"version": version, "share": share, **_checked(run, several)}
      rows.append({"list": said, **told})

  found = {"improved": rows}
  if is_checked(run):
    found["improved_steering"] = [
      {"version": version, **row}
      for version, texts in versions.items()
      for row in _steering(run, lists, texts)
    ]
  return found


def pool_conditioning(parts: Mapping[int, Mapping], prompts: Sequence) -> dict:
  """Returns who tells which response is better, the same for all seeds; pairs are each seed's."""
  del prompts
  return {"told_by": next(iter(parts.values()))["told_by"]}


def pool_improved(parts: Mapping[int, Sequence[Mapping]], prompts: Sequence) -> list[dict]:
  """Returns `improved` of several seeds: means, those of each check among them."""
  pooled = seeds.rows("list", "version")(parts, prompts)
  for row, same in zip(pooled, zip(*parts.values(), strict=True), strict=True):
    checks = [one.get("checks", {}) for one in same]
    row["checks"] = {name: float(np.mean([each[name] for each in checks])) for name in checks[0]}
  return pooled


def _checked(run: Subject, texts: Sequence[str]) -> dict:
  """Returns the mean score of texts, their length, and the share that passes each check."""
  told = run.suite.describe(texts)
  return {name: told[name] for name in ("score", "tokens", "checks") if name in told}


def _steering(
  run: Subject,
  lists: Mapping[str, Sequence[principles.Shown]],
  answers: Mapping[str, Sequence[str]],
) -> list[dict]:
  passed = {
    system: [synthetic.checks(x, y) for x, y in zip(run.suite.questions, texts, strict=True)]
    for system, texts in answers.items()
    if system in lists
  }
  fixed = {system: shown for system, shown in lists.items() if shown}
  rows = []
  for one in run.bank.principles:
    held: dict[str, list] = {"with": [], "without": [], "negated": []}
    for system, shown in fixed.items():
      kinds = {each.principle.name: "negated" if each.is_negated else "with" for each in shown}
      kind = kinds.get(one.name, "without")
      held[kind].append([check[one.name] for check in passed[system]])
    count = len(run.suite.questions)
    arrays = {kind: np.array(several, bool).reshape(-1, count) for kind, several in held.items()}
    row = {"principle": one.name, **steering.difference(arrays["with"], arrays["without"])}
    if len(arrays["negated"]):
      against = steering.difference(arrays["with"], arrays["negated"])
      row["negated"] = against["without"]
      row |= {f"{name}_negated": against[name] for name in ("difference", "ci95")
              if name in against}  # fmt: skip
    rows.append(row)
  return rows


def of_run(context: contexts.Context, study: Study) -> Subject:
  """Returns a finished run as its experiments see it."""
  models = {name: one.params for name, one in study.policies.items()}
  models["sft"] = study.sampled.params
  plain = study.rewards.get("reward_plain") if banks.judged_by_own(context.config) else None
  labellers = [context.config.salmon.judge]
  how = {"policy": models[banks.SALMON], "sampler": models["sft"], "labellers": labellers}
  judging = plain if isinstance(plain, reward.RewardModel) else None
  suite = subject.suite_of(context, reward_model=judging, **how)
  compared = [(name, "sft") for name in study.policies]
  compared += [(banks.SALMON, name) for name in study.policies if name != banks.SALMON]
  known = subject.facts_of(study.rewards)
  drawn = f"{context.config.salmon.drawn} principles drawn for each response"
  listed = banks.lists(context.config).items()
  about = {name: f"RL under {names or drawn}" for name, names in listed}
  how = {"models": models, "compared": compared, "control": "salmon_resampled", "about": about}
  return Subject(context, suite, reward_models=known, study=study, **how)
