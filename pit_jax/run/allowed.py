"""What every key of a configuration may be: by this it is refused, and printed by `pit config`."""

from collections.abc import Mapping, Sequence

import ml_collections

from pit_jax import parallel, ranges
from pit_jax.data import (
  chat,
  classifier_text,
  encode,
  preferences,
  prompt_formats,
  published,
  schemas,
  scores,
  sources,
  text,
)
from pit_jax.improve import gains
from pit_jax.models import architecture, remat
from pit_jax.run import kinds, published_models

Ranges = Mapping[str, ranges.Range]  # path of a key → what it may be; see `ranges.outside`
BACKEND = ranges.one_of(*published_models.BACKENDS)
READER = ranges.one_of(*classifier_text.KINDS)
# What a language model answers when it judges; `feedback.language_judge` words the questions.
VERDICTS = ("json", "logprob")


def _below(section: str, table: Ranges) -> dict[str, ranges.Range]:
  return {f"{section}.{key}": allowed for key, allowed in table.items()}


def shows(name: str, *texts: str) -> ranges.Range:
  """Returns the range of the plain text of a format with these slots."""

  def holds(value):
    try:
      return (
        ranges.SAID.holds(value) and prompt_formats.Format(name, texts, plain=value) is not None
      )
    except ValueError:
      return False

  slots = " and, after a space, ".join(f"{{{slot}}}" for slot in ("prompt", *texts))
  return ranges.Range(
    f"a text with {slots}, once each and without another brace, that ends in no space", holds
  )


RECORDS = {
  **dict.fromkeys(("log_every", "log_every_rl", "save_every", "save_every_rl"), ranges.COUNT),
  "profile.first": ranges.COUNT,
  "profile.last": ranges.COUNT,
  "wandb.project": ranges.TEXT,
  "checkpoints.keep": ranges.COUNT,
  "checkpoints.timeout": ranges.POSITIVE,
  "checkpoints.checksum_limit": ranges.COUNT_OR_NONE,
  "compilation.cache": ranges.TEXT,
  "compilation.limit": ranges.COUNT,
  **_below("recorder", dict.fromkeys(("kl", "negative_kl", "ratio"), ranges.FROM_ZERO)),
}
MODEL = {
  **dict.fromkeys(("width", "layers", "heads", "kv_heads", "head_width", "hidden"), ranges.COUNT),
  "base": ranges.SAID,
  "rope_theta": ranges.POSITIVE,
  "dtype": ranges.one_of(*architecture.DTYPES),
  **dict.fromkeys(("tied", "unroll", "offload"), ranges.SWITCH),
  "attention": ranges.one_of(*architecture.KERNELS),
  "remat": ranges.one_of(*remat.WANTED),
  "lora.rank": ranges.COUNT_OR_NONE,
  "lora.alpha": ranges.POSITIVE,
  "lora.targets": ranges.some_of(*architecture.MATRICES),
  "lora.base": ranges.one_of(*architecture.STORED),
}
DATA = {
  "source": ranges.Range(sources.KINDS, ranges.SAID.holds),  # which there are, who reads it says
  "rows": ranges.or_none(ranges.COUNT),
  "schema": ranges.one_of(schemas.AUTO, *published.BY_NAME),
  "columns": ranges.TEXT,
  "on_bad_row": ranges.one_of(*preferences.ON_BAD_ROW),
  "against_scores": ranges.one_of(*scores.AGAINST),
  "over_long": ranges.one_of(*encode.OVER_LONG),
  **dict.fromkeys(("cache", "tokenizer"), ranges.TEXT),
  **dict.fromkeys(("length_buckets", "streaming"), ranges.SWITCH),
  **dict.fromkeys(("held_out", "validation"), ranges.PART),
  "judge": ranges.BELOW_ONE,
  "fold_by": ranges.one_of(*preferences.FOLD_BY),
  "folds": ranges.Range(
    "names of letters, digits, '_', '-' and '.', each once, and none that a part of the rows has: "
    f"{', '.join(preferences.RESERVED)} or one that ends in {preferences.VALIDATION}",
    preferences.are_folds,
  ),
  "held_out_writers": ranges.names_of("a list of names"),
  "vocabulary": ranges.Range(
    f"{text.SMALLEST} or more, a whole number",
    lambda x: ranges.COUNT.holds(x) and x >= text.SMALLEST,
  ),
  **dict.fromkeys(("max_prompt_length", "max_response_length"), ranges.COUNT),
  "chat": ranges.one_of(*chat.KINDS),
  "policy_template": shows("policy"),
  "improver_template": shows("improver", "reference"),
  "improver_turn": ranges.SAID,
}
# Of a language model: `evaluation.language_judge`, and sections of `feedback`.
LANGUAGE_MODEL = {
  **dict.fromkeys(("model", "base_url", "cache"), ranges.TEXT),
  "verdict": ranges.one_of(*VERDICTS),
  "tie": ranges.BELOW_ONE,
  "timeout": ranges.POSITIVE,
  **dict.fromkeys(("prompts", "max_tokens", "max_prompt_tokens", "concurrency"), ranges.COUNT),
  **dict.fromkeys(("retries", "budget_requests", "budget_tokens"), ranges.COUNT_OR_NONE),
  **dict.fromkeys(("temperature", "requests_per_minute", "wait"), ranges.FROM_ZERO),
  **dict.fromkeys(("input_price", "output_price"), ranges.FROM_ZERO),
}
SELF_REFINE = {
  "play": ranges.SWITCH,
  **dict.fromkeys(("feedback_turn", "refine_turn"), ranges.SAID),
  "stop": ranges.TEXT,
  **dict.fromkeys(("max_feedback_tokens", "max_prompt_tokens"), ranges.COUNT),
}
EVALUATION = {
  **dict.fromkeys(("prompts", "rounds", "temperature_prompts"), ranges.COUNT),
  "reward_model": ranges.TEXT,
  "reward_reader": READER,
  "reward_backend": BACKEND,
  "margin": ranges.NUMBER,
  "stop_rule": ranges.one_of(*gains.RULES),
  "judges": ranges.names_of("names of feedback.raters"),
  "temperatures": ranges.list_of("some numbers, each 0 or more", ranges.FROM_ZERO, least=1),
  **_below("language_judge", LANGUAGE_MODEL),
  **_below("self_refine", SELF_REFINE),
}
COMMON = {
  "recipe": ranges.SAID,
  "seed": ranges.WHOLE,
  "inference_batch_size": ranges.COUNT,
  "temperature": ranges.FROM_ZERO,
  "frontier.checkpoints": ranges.COUNT_OR_NONE,
  "frontier.prompts": ranges.COUNT,
  "mesh.shape": ranges.Range(parallel.SHAPES, parallel.is_shape),
  "mesh.slices": ranges.Range(
    f"-1, or {ranges.COUNT.words}", lambda x: ranges.WHOLE.holds(x) and (x == -1 or x >= 1)
  ),
  **RECORDS,
  **_below("model", MODEL),
  **_below("data", DATA),
  **_below("evaluation", EVALUATION),
}


def of(config: ml_collections.ConfigDict, method: kinds.Method) -> dict[str, ranges.Range]:
  """Returns what the keys of a configuration may be, by their paths: see `ranges.outside`.

  Those of sections of a recipe's own, which no kind of job has, are its own to check.
  """
  if "data" not in config:  # it has no network, and keys of its own alone
    return dict(method.allowed)
  folds = tuple(config.data.folds) if preferences.are_folds(config.data.folds) else ()
  table = {**COMMON, **_by_folds(folds), **method.allowed}
  for name in kinds.sections(config):
    section = config[name]
    # Which kinds there are depends on the recipe.
    table[f"{name}.kind"] = ranges.Range(
      f"a kind of recipe {method.name}, one of {', '.join(method.kinds)}",
      ranges.one_of(*method.kinds).holds,
    )
    table[f"{name}.fold"] = _fold(folds)
    if kind := kinds.named(method, section.kind):
      there = {key: one for key, one in kind.optional.items() if key in section}
      table |= _below(name, {**kind.allowed, **there})

  return table | {"profile.stage": _stages(config, method)}


def _fold(folds: Sequence[str]) -> ranges.Range:
  """Returns the range of the fold of a section, which may be several together."""
  return ranges.Range(
    f"one of data.folds={tuple(folds)}, or several with {preferences.JOINED} between, each once",
    lambda x: isinstance(x, str) and ranges.is_some(preferences.folds_in(x), folds),
  )


def _by_folds(folds: Sequence[str]) -> dict[str, ranges.Range]:
  """Returns the ranges of what goes by the folds that there are."""
  sizes = f"(), or {len(folds)} numbers above 0, one for each of data.folds"
  return {
    "data.fold_sizes": ranges.Range(
      sizes,
      lambda x: (
        ranges.is_list(x) and len(x) in (0, len(folds)) and all(map(ranges.POSITIVE.holds, x))
      ),
    ),
    "data.prompts_only": ranges.Range(
      f"(), or some of data.folds={folds}, each once", lambda x: ranges.is_some(x, folds)
    ),
  }


def _stages(config: ml_collections.ConfigDict, method: kinds.Method) -> ranges.Range:
  """Returns the range of the stage of which steps are traced."""
  try:
    stages = method.stages(config)
    names = [one.name for one in stages if kinds.kind_of(method, config, one).learns]
  except Exception:  # a recipe's own; what is wrong with the sections is told of them
    return ranges.TEXT
  return ranges.Range(
    f'"", or one of {", ".join(names)}', lambda x: isinstance(x, str) and (not x or x in names)
  )
