"""The embedded task's base model: next-token prediction on plain letters, then its export.

Users start from a pretrained model; so does the demonstration. The text holds no preferences and
no scores. Single letters come first; then half of the documents go on with another writer's
letter about the same question, in no order, from which a model learns that one text may repeat
what another found. Where `words` are on, a quarter goes on with principles and feedback instead.
"""

import dataclasses
import hashlib
import json
import pathlib
import re
import sys

import jax
import ml_collections
import numpy as np

from pit_jax import hosts, parallel, ranges
from pit_jax.data import encode, preferences, rows, tables, template, text
from pit_jax.evaluate import provenance
from pit_jax.exchange import hf
from pit_jax.models import pure
from pit_jax.recipes import recipe
from pit_jax.rollout import inference
from pit_jax.run import context as contexts
from pit_jax.run import forms, kinds, origin, workdirs
from pit_jax.run import models as run_models
from pit_jax.run import rows as run_rows
from pit_jax.stages import jobs, objectives, supervised, trained
from pit_jax.tasks import synthetic, words


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
  """Trains the base model, checks that it can do its workings, and writes workdir/base."""
  context = build(config, workdir)
  params = train(context).params
  facts = measure(context, params)

  for name in ("working", "remark"):
    if facts[name] < config.required:
      raise ValueError(
        f"only {facts[name]:.1%} of the {name}s are right, {config.required:.0%} are required; "
        "train longer (the steps in configs/base.py)"
      )

  directory = workdir / "base"
  tokenizer = context.rows.settings.tokenizer
  hf.save(directory, context.models.language, params, **tokenizer.special_ids)
  tokenizer.save(directory)
  facts["sha256"] = hashlib.sha256((directory / hf.WEIGHTS).read_bytes()).hexdigest()
  facts["tokenizer"] = tokenizer.fingerprint
  facts["steps"] = {stage.name: config[stage.name].steps for stage in stages(config)}
  facts["command"] = provenance.command(sys.argv)
  workdirs.write_text(directory / "record.json", json.dumps(facts, indent=2) + "\n")
  print(json.dumps(facts, indent=2))


def train(context: contexts.Context) -> trained.Trained:
  """Trains on single letters, then on documents."""
  result = trained.Trained(context.initial_policy(), {})
  learner = (context.models.language, objectives.imitation)
  for name, table in records(context).items():
    result = supervised.run(context, name, *learner, result.params, table, context.config[name])

  return result


def build(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> contexts.Context:
  """Returns a context whose SFT fold is the plain text: x, first letter, second letter.

  Raises:
    ValueError: if the workdir belongs to a run with another configuration.
  """
  new = hosts.agree(workdirs.is_new(config, workdir))
  letters = [
    rows.Preference(prompt=x, chosen=second, rejected=first)
    for x, first, second in synthetic.plain_text(config.data.rows, config.seed, config.first)
    if first != second
  ]
  folds = {"sft": tuple(letters)}
  data = preferences.PreferenceSet(folds["sft"], {}, "plain text", preferences.fingerprint(letters))

  c = config.data
  settings = encode.Settings(
    tokenizer=_tokenizer(config, folds, workdir, new),
    template=template.Template(policy=c.policy_template, improver=c.improver_template),
    max_prompt_length=c.max_prompt_length,
    max_response_length=c.max_response_length,
  )

  shape = origin.shape(config, None, settings.tokenizer.vocab_size, jax.devices()[0].platform)
  language = pure.language_model(shape)
  asking = inference.Inference(
    language=language,
    scalar=pure.scalar_model(shape),
    settings=settings,
    response_length=c.max_response_length,
    batch_size=config.inference_batch_size,
    mesh=parallel.make_mesh(config.mesh.shape, language, slices=config.mesh.slices),
  )

  # Only now is the workdir claimed: what fails above leaves it free.
  workdirs.begin(config, workdir)
  table_rows = run_rows.Rows(data, folds, settings, run_rows.token_folder(config, workdir))
  models = run_models.Models(asking)  # no base to start from, and no published models
  models.prepare()
  return contexts.Context(config, workdir, RECIPE, asking.mesh, table_rows, models)


def records(context: contexts.Context) -> dict[str, tables.Table]:
  """Returns the text of each stage: single letters, then documents of one letter or of two."""
  letters = context.rows.folds["sft"]
  settings = context.rows.settings
  after = settings.template.policy.rpartition("{prompt}")[2]
  seed = context.config.seed
  has_words = context.config.words
  documents = []
  for index, row in enumerate(letters):
    rest = words.after_letter(index, seed, f"{after} {row.rejected}", has_words=has_words)
    documents.append(dataclasses.replace(row, chosen=row.chosen + rest))

  how = (settings.formats["policy"], settings, context.rows.tokens)
  texts = {"letters": letters, "documents": documents}
  names = [stage.name for stage in stages(context.config)]
  return {name: encode.demonstrations(texts[name], *how) for name in names}


def measure(context: contexts.Context, params) -> dict:
  """Returns how often the model's greedy letters pass each check, on questions it never saw."""
  test_rows = synthetic.preferences(context.config.test_questions, seed=context.config.seed + 1)
  questions = [row["prompt"] for row in test_rows]
  letters = context.models.inference.answer(params, questions, context.key("test"), 0.0)
  letters = [letter.split("\n")[0] for letter in letters]  # without a second one
  remarks = "|".join(f" {remark}" for remark in synthetic.REMARKS.values())
  plain = [re.sub(remarks, "", letter) for letter in letters]

  passed = [synthetic.checks(x, y) for x, y in zip(questions, plain, strict=True)]
  shares = {name: float(np.mean([checks[name] for checks in passed])) for name in passed[0]}
  pairs = [(checks["answer"], letter) for checks, letter in zip(passed, letters, strict=True)]
  remarked = [
    [letter.endswith(f" {remark}") for is_right, letter in pairs if is_right == is_said]
    for is_said, remark in synthetic.REMARKS.items()
  ]

  # Right and wrong openings count alike; where there are none of a kind, nothing was shown.
  return shares | {"remark": float(np.mean([np.mean(kind or [False]) for kind in remarked]))}


def _tokenizer(config, folds, workdir, new) -> text.Tokenizer:
  c = config.data
  texts = []
  for index, row in enumerate(folds["sft"][:5_000]):
    texts.append(c.policy_template.format(prompt=row.prompt))
    texts.append(c.improver_template.format(prompt=row.prompt, reference=row.chosen))
    texts.append(words.after_letter(4 * index + 1, config.seed, "", has_words=config.words))

  return forms.tokenizer(texts, c.vocabulary, workdir / "tokenizer", new)


def stages(config: ml_collections.ConfigDict) -> list[kinds.Stage]:
  """Returns the stages that a configuration has sections of."""
  return [kinds.Stage(name, name) for name in ("letters", "documents") if name in config]


RECIPE = recipe.Recipe(
  name="base",
  kinds={"sft": jobs.SFT},
  stages=stages,
  train=train,
  allowed={
    "test_questions": ranges.COUNT,
    "required": ranges.SHARE,
    "first": ranges.SHARE,
    "words": ranges.SWITCH,
  },
  run=run,
)
