"""What a finished run found on held-out prompts, as the results of a report."""

import hashlib
import json
import pathlib
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pit_jax import hosts, progress
from pit_jax.evaluate import provenance, subject, suite
from pit_jax.feedback import judges, language_judge
from pit_jax.report import rewarded, verdict
from pit_jax.run import context as contexts
from pit_jax.run import kinds, workdirs
from pit_jax.statistics import significance
from pit_jax.storage import places
from pit_jax.training import timing, writers

MEDIANS = (
  "perf/tokens_per_second",
  "perf/mfu",
)  # over those steps of a stage that compiled nothing
# Of what is measured on rows that nothing learns from, before the name of a curve.
HELD = ("validation/", "reward_model/", "held_out/")
NO_GOLD = (
  "This source has no gold score. The judges are {trainers}, which also trained the models: "
  "a gain under them shows that training did what it was asked, not that people would agree."
)
ONLY_A_MODEL = (
  "This source has no gold score. {judge} is a reward model that no model here was trained with: a "
  "gain under it is no artefact of {others}, but it is a model's opinion, not people's."
)
ONLY_A_RATER = (
  "{judge} is a rater that the configuration names and that labelled nothing here: a gain under it "
  "is no artefact of {others}, and as good as its opinion."
)
ONLY_A_LANGUAGE_MODEL = (
  "This source has no gold score. {judge} is the opinion of {model}, asked in both orders: a gain "
  "under it is no artefact of {others}, but it is a model's opinion, not people's. Scores are "
  "{scorer}'s."
)


def of_run(context: contexts.Context, recipe: Any, trained: Any, only: str | None = None) -> dict:
  """Returns the results of a finished run, of a recipe and all that it trained.

  `only` repeats one experiment and keeps the other results of the run's report; None runs all.
  """
  experiments = recipe.experiments
  # Times stay those of the whole run: what is repeated alone is not timed.
  if only is not None:
    run = recipe.subject(context, trained)
    old = context.read_json("report", "results.json")
    parts = _measured(context, run, {only: experiments[only]})
    _write_files(context, parts)

    # Corrections depend on all comparisons, so those that stay are corrected anew.
    return _finish(_joined(old, parts, experiments) | _asked(run.suite))

  with context.timed("evaluation"):
    run = recipe.subject(context, trained)
    lacking = not_made(recipe, json.loads(context.config.to_json()))
    made = {name: each for name, each in experiments.items() if name not in lacking}
    parts = _measured(context, run, made)
    _write_files(context, parts)
    results = _joined(_surroundings(context, run.suite), parts, experiments) | _asked(run.suite)

  timing.alive(context.workdir, "evaluation")
  goodput = hosts.agree(timing.goodput(context.workdir))
  timed = {"seconds": context.read_json("seconds.json"), "goodput": goodput}
  return _finish(results) | timed | {"sampling": run.seconds, "speeds": _speeds(context)}


def _measured(
  context: contexts.Context, run: subject.Subject, experiments: Mapping[str, Any]
) -> dict[str, dict]:
  """Returns what each experiment found, and says when it is finished."""
  parts = {}
  for number, (name, experiment) in enumerate(experiments.items(), start=1):
    with progress.finished(f"evaluation {number} of {len(experiments)}, {name}"):
      parts[name] = experiment(run)
    # What was computed counts as kept from here on, should the process end.
    timing.alive(context.workdir, name)

  return parts


def not_made(recipe: Any, config: Mapping) -> dict[str, str]:
  """Returns the experiments for which a run trained nothing, and how another one would."""
  needs = recipe.needs.items()
  return {
    name: f"train with {flag} in another workdir"
    for name, (flag, is_there) in needs
    if name in recipe.experiments and not is_there(config)
  }


def check(recipe: Any, workdir: pathlib.Path, only: str | None) -> None:
  """Raises a ValueError if an experiment of a run, or where it is None all, cannot be repeated."""
  experiments = recipe.experiments
  if not experiments or only not in (None, *experiments):
    allowed = f"it has {', '.join(experiments)}" if experiments else "it has none"
    raise ValueError(f"recipe {recipe.name} has no experiment {only!r}; {allowed}")

  named = places.address(workdir)
  file = workdir / "report" / "results.json"
  if not file.exists():
    raise ValueError(
      f"{named} holds no finished run: there is no report/results.json; finish the run by "
      f"repeating its `pit train --config=… --workdir={named}`"
    )

  results = workdirs.read_object(file)
  flag, is_there = recipe.needs.get(only, ("", None))
  if is_there and not is_there(results["config"]):
    raise ValueError(
      f"{named} has nothing for experiment {only!r}; train with {flag} in another --workdir"
    )

  if any("experiment" not in row for row in results["comparisons"]):
    raise ValueError(
      f"{named}/report/results.json is of an older version: its comparisons do not say to which "
      "experiment they belong; train again in another --workdir"
    )


def _asked(experiments: suite.Suite) -> dict:
  """Returns facts of the judges themselves, once all was judged."""
  return {"judges": {judge.name: facts for judge in experiments.judges if (facts := judge.facts())}}


def _write_files(context: contexts.Context, parts: Mapping[str, dict]) -> None:
  """Writes what experiments found prompt by prompt, which results.json does not hold."""
  _write_verdicts(context, parts)
  for part in parts.values():
    if lines := part.pop("lines", None):
      written = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
      workdirs.write_text(context.workdir / "report" / "ledger.jsonl", written)


def _write_verdicts(context: contexts.Context, parts: Mapping[str, Mapping]) -> None:
  """Writes WORKDIR/judge/verdicts.jsonl: what judges that give reasons said, pair by pair.

  The lines of other experiments than these stay. The rows of comparisons lose their verdicts.
  """
  path = context.workdir / "judge" / "verdicts.jsonl"
  lines = []
  if path.exists():
    old = path.read_text(encoding="utf-8").splitlines()
    lines = [line for line in old if json.loads(line)["experiment"] not in parts]

  for name, part in parts.items():
    for row in part.get("comparisons", ()):
      about = {"experiment": name, **{key: row[key] for key in ("a", "b", "judge", "temperature")}}
      lines += [json.dumps(about | pair, ensure_ascii=False) for pair in row.pop("verdicts", ())]

  if lines or path.exists():
    workdirs.write_text(path, "".join(f"{line}\n" for line in lines))


def _joined(results: Mapping, parts: Mapping[str, Mapping], order: Collection[str]) -> dict:
  """Returns results in which the parts of some experiments are new.

  Sections belong to one experiment; rows of `comparisons`, which say whose they are, and entries
  of `systems` to several. Rows stand in the order of their experiments.
  """
  joined = {"systems": {}, "comparisons": [], **results}
  for name, part in parts.items():
    rows = [row for row in joined["comparisons"] if row["experiment"] != name]
    rows += [{**row, "experiment": name} for row in part.get("comparisons", ())]
    systems = {**joined["systems"], **part.get("systems", {})}

    # Rows and systems of several experiments stand together; all else belongs to one.
    joined |= {**part, "comparisons": rows, "systems": systems}

  places = {name: place for place, name in enumerate(order)}
  joined["comparisons"].sort(key=lambda row: places[row["experiment"]])
  return joined


def _finish(results: dict) -> dict:
  """Adds what follows from all comparisons together."""
  results["comparisons"] = significance.annotate(results["comparisons"])
  principal = verdict.principal(results)
  return results | ({"power": significance.power(principal)} if principal else {})


def _surroundings(context: contexts.Context, experiments: suite.Suite) -> dict:
  """Returns stages, data, configuration and notes of a run, for which no model is asked."""
  config = json.loads(context.config.to_json())
  lacking = not_made(context.recipe, config)
  return {
    "recipe": context.config.recipe,
    **({"headline": list(context.recipe.headline)} if context.recipe.headline else {}),
    "stages": _stages(context),
    "data": _data(context),
    **({"not_made": lacking} if lacking else {}),
    "config": config,
    "notes": _notes(context, experiments),
    "labellers": sorted({*experiments.trainers} - {*judges.TRAINERS}),
    "made": hosts.agree(provenance.facts(context.mesh.size)),
  }


def _notes(context: contexts.Context, experiments: suite.Suite) -> list[str]:
  """Says what the judges can and cannot show where there is no gold score."""
  names = [judge.name for judge in experiments.judges]
  if not names or names[0] == judges.GOLD:
    return []
  first = names[0]
  trainers = [name for name in names if name in experiments.trainers]
  others = " or ".join(trainers) or "training"

  if first == language_judge.NAME:
    model = context.config.evaluation.language_judge.model
    about = {"judge": first, "others": others, "scorer": experiments.scorer.name}
    return [ONLY_A_LANGUAGE_MODEL.format(model=model, **about)]
  if first in (subject.PUBLISHED, subject.INDEPENDENT):
    return [ONLY_A_MODEL.format(judge=first, others=others)]
  if first not in trainers:
    rater = ONLY_A_RATER.format(judge=first, others=others)
    return [rater if judges.GOLD in names else f"This source has no gold score. {rater}"]
  note = NO_GOLD.format(trainers=" and ".join(trainers))
  return [f"{note} {context.recipe.caveat(context.config)}".strip()]


def _stages(context: contexts.Context) -> dict:
  stages = {}
  planned = {stage.name: stage for stage in context.recipe.stages(context.config)}
  for name, logged in _logged(context).items():
    if name not in planned:  # of other ablations that were once asked for
      continue
    kind = kinds.kind_of(context.recipe, context.config, planned[name])
    rewards = _rewards(context, planned[name], logged)
    facts = context.facts.get(name, {})
    curves = (*kind.curves, *(f"{rewarded.PREFIX}{reward}" for reward in rewards))
    stages[name] = {
      "kind": planned[name].kind or context.config[planned[name].section].kind,
      "section": planned[name].section,
      **({"part": part} if (part := planned[name].part) else {}),
      "fold": kinds.fold_of(context.config, planned[name]),
      "steps": logged[-1]["step"],
      **({"step": facts["step"]} if facts else {}),
      "facts": {
        label: facts[metric]
        for metric, label in kind.figures.items()
        if facts.get(metric) is not None
      },
      **({"rewards": rewards} if rewards else {}),
      "curve": {
        metric: [[row["step"], row[metric]] for row in logged if row.get(metric) is not None]
        for metric in curves
      },
      "validation": _validation(logged, kind.curves),
    }

  return stages


def _rewards(
  context: contexts.Context, stage: kinds.Stage, logged: Sequence[Mapping]
) -> dict[str, dict]:
  """Returns what a stage of RL maximised, as it logged it; nothing of any other stage."""
  names = dict.fromkeys(key for row in logged for key in row if key.startswith(rewarded.PREFIX))
  weights = dict(context.config[stage.section].get("rewards") or ())
  # The page of a recipe knows which network gives the reward of which name.
  own = context.recipe.page.rewards.get(stage.reward)
  return rewarded.named([name.removeprefix(rewarded.PREFIX) for name in names], weights, own)


def _validation(logged: Sequence[Mapping], curves: Sequence[str]) -> dict[str, list]:
  """Returns those curves that were also measured on rows that nothing learns from."""
  found = {}
  for metric in curves:
    names = [prefix + metric.rpartition("/")[2] for prefix in HELD]
    points = [
      [row["step"], row[name]] for row in logged for name in names if row.get(name) is not None
    ]
    found |= {metric: points} if points else {}

  return found


def _speeds(context: contexts.Context) -> dict[str, dict[str, float]]:
  """Returns stage → how fast its median step was, of those that compiled nothing."""
  speeds = {}
  for name, logged in _logged(context).items():
    running = [row for row in logged if not row.get("perf/time_compile")]
    speeds[name] = {
      metric.removeprefix("perf/"): statistics.median(values)
      for metric in MEDIANS
      if (values := [row[metric] for row in running if row.get(metric) is not None])
    }

  return speeds


def _logged(context: contexts.Context) -> dict[str, list[dict]]:
  """Returns stage → its logged steps, in the order in which the stages ended."""
  paths = (context.workdir / "metrics").glob("*.jsonl")
  return {path.stem: writers.read(path) for path in sorted(paths, key=lambda p: p.stat().st_mtime)}


def _data(context: contexts.Context) -> dict:
  settings = context.rows.settings
  base = context.models.base
  # Sorted: the order of keys makes no other configuration.
  content = json.dumps(json.loads(context.config.to_json()), sort_keys=True)
  return {
    "source": context.rows.data.source,
    "rows": len(context.rows.data.rows),
    "folds": {name: len(part) for name, part in context.rows.folds.items() if part},
    "skipped": context.rows.data.skipped,
    "template_hash": settings.template.hash,
    "tokenizer": settings.tokenizer.fingerprint,
    "rows_hash": context.rows.data.fingerprint,
    "base_hash": base.fingerprint if base else "none: random weights",
    "configuration_hash": hashlib.sha256(content.encode()).hexdigest()[:16],
    **context.rows.over_long(),
  }
