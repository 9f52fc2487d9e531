"""Models in and out: what others wrote becomes a model directory, a run's models go to others.

A model directory is what transformers writes and reads: config.json, safetensors, tokenizer. Runs
start from one (`config.model.base`) and keep their own models as such; see models/hf.py.
"""

import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import transformers

from pit_jax import export, parallel
from pit_jax.data import text
from pit_jax.evaluate import verdict
from pit_jax.models import bundle, families, gguf, hf, merging, peft, pure, weights

MODELS = {  # of a run → what each is
  "policy": "the policy after RLHF: answers a question",
  "improver": "the improver: shown a question and an answer to it, writes a better one",
  "reward": "the reward model R_P: scores an answer",
  "gap_reward": "the gap reward model R_PIT: scores how much better an answer is than another",
}


def bring_in(
  source: str | os.PathLike,
  output: str | os.PathLike,
  *,
  dtype: str = "float32",
  tokenizer: str | os.PathLike | None = None,
  adapter: str | os.PathLike | None = None,
) -> pure.PureModel:
  """Writes a model directory from a GGUF file or from another model directory.

  Args:
    source: a .gguf file, or a directory with config.json and safetensors.
    output: the directory to write.
    dtype: of the tensors written.
    tokenizer: a tokenizer directory; None is the adapters' own where they have one, else the
      source's.
    adapter: a directory of PEFT with adapters of the source, which are merged; None for none.

  Returns:
    The model that was written: a language model, or a scalar model if the source or what the
    adapters make of it is a classifier.

  Raises:
    ValueError: if anything in the source is not supported or does not fit; the message names it.
  """
  source, output = pathlib.Path(source), pathlib.Path(output)
  is_file = source.suffix == ".gguf"
  if not is_file:
    hf.refuse_adapters(source)
  words = text.load_tokenizer(tokenizer or _speaker(source, adapter))
  opened = gguf.File(source) if is_file else hf.Directory(source)
  shape = opened.config if is_file else hf.read(source)
  is_scalar = not is_file and families.is_classifier(source)
  if adapter is not None:
    opened = merging.Merged(opened, adapter, is_tied=shape.tied)
    shape = dataclasses.replace(shape, tied=shape.tied and weights.is_tied(opened))
    is_scalar = opened.is_scalar
  model = (pure.scalar_model if is_scalar else pure.language_model)(shape)
  if words.vocab_size > shape.vocabulary:
    raise ValueError(
      f"{source}: the tokenizer has {words.vocab_size} tokens, the model knows "
      f"{shape.vocabulary}; give the tokenizer it was trained with as --tokenizer"
    )
  params = weights.fill(model, opened)
  hf.save(output, model, params, dtype=dtype, **words.special_ids)
  words.save(output, keeps_bos=True)
  return model


def _speaker(source: pathlib.Path, adapter: str | os.PathLike | None) -> pathlib.Path:
  """Returns where the tokenizer lies: those who train adapters write theirs beside them."""
  has_own = adapter is not None and (pathlib.Path(adapter) / "tokenizer.json").is_file()
  return pathlib.Path(adapter) if has_own else source


def send_out(
  workdir: str | os.PathLike,
  output: str | os.PathLike,
  names: Sequence[str] | None = None,
  *,
  dtype: str = "float32",
  as_adapters: bool = False,
) -> list[pathlib.Path]:
  """Writes models of a finished run as directories that transformers and vLLM serve.

  Each gets the tokenizer, the run's template as its chat template, a generation config, and a
  model card with the run's figures. A published R_P keeps its own tokenizer and template, and its
  card says that it was not trained here.

  Args:
    workdir: folder of the run.
    output: folder of the directories, one per model.
    names: of the models; see `MODELS`. None are all that the run has.
    dtype: of the tensors written, their base's included; adapters are float32.
    as_adapters: write what each model adds to the base they share, as PEFT reads it, and the base
      into OUTPUT/base; else adapters are merged into whole models. A published R_P has none and
      is written whole either way.

  Returns:
    The directories.

  Raises:
    ValueError: if the run is not finished, has no such model, or no adapters where they are asked
      for; or another base lies in OUTPUT/base, on which other adapters may stand.
  """
  workdir, written, base = pathlib.Path(workdir), [], None
  path = workdir / "report" / "results.json"
  results = json.loads(path.read_text()) if path.is_file() else None
  mesh = parallel.make_mesh((1, 1, 1))
  kept = [name for name in MODELS if (workdir / export.FOLDER / name).is_dir()]
  for name in names or kept or MODELS:  # without any, the first one says that the run has none
    found, directory = export.load_one(workdir, name, mesh=mesh), pathlib.Path(output) / name
    tokenizer, form = found.asking.settings.tokenizer, found.asking.settings.template
    ids = tokenizer.special_ids
    if as_adapters and not found.is_published:
      base = base or _write_base(workdir, pathlib.Path(output).resolve(), found, dtype)
      peft.save(directory, found.model, found.params, base=str(base), **ids)
    else:
      hf.save(directory, found.model, found.params, dtype=dtype, **ids)
    kind = {"shows_reference": name in ("improver", "gap_reward")}
    kind["is_scored"] = pure.is_scalar(found.model)
    tokenizer.save(directory, form.chat(tokenizer, **kind))
    if not pure.is_scalar(found.model):
      transformers.GenerationConfig(
        do_sample=True,
        temperature=1.0,
        max_new_tokens=found.asking.response_length,
        eos_token_id=list(tokenizer.stop_ids),
        pad_token_id=tokenizer.pad_id,
      ).save_pretrained(directory)
    card = _card(name, results, found, base if as_adapters else None)
    (directory / "README.md").write_text(card, encoding="utf-8")
    written.append(directory)
  return written


def _write_base(
  workdir: pathlib.Path, output: pathlib.Path, found: export.Exported, dtype: str
) -> pathlib.Path:
  """Writes the base that a run's adapters share, all or nothing; the same one may lie there."""
  if found.model.config.adapter is None:
    raise ValueError(
      f"{workdir}: its models have no adapters, every weight was trained; export them whole"
    )
  source, base = workdir / export.FOLDER / bundle.BASE, output / bundle.BASE
  partial, tokenizer = output / f"{bundle.BASE}.partial", found.asking.settings.tokenizer
  shutil.rmtree(partial, ignore_errors=True)
  model = pure.language_model(families.read(source))
  hf.save(partial, model, hf.load(source, model), dtype=dtype, **tokenizer.special_ids)
  tokenizer.save(partial)
  if not base.exists():
    return partial.rename(base)
  is_same = _fingerprint(base) == hf.fingerprint(partial)
  shutil.rmtree(partial)
  if not is_same:
    raise ValueError(
      f"{base} is not the base of {workdir} in {dtype}, and adapters beside it may need it; remove "
      "it, or give another --output"
    )
  return base


def _fingerprint(directory: pathlib.Path) -> str | None:
  """Returns the fingerprint of a model's directory; None where no whole model lies there."""
  try:
    return hf.fingerprint(directory)
  except (OSError, ValueError):
    return None


def _card(
  name: str,
  results: Mapping[str, Any] | None,
  found: export.Exported,
  base: pathlib.Path | None,
) -> str:
  """Returns a model card; of adapters where there is a base."""
  is_scalar = name in ("reward", "gap_reward")
  lines = [
    "---",
    "library_name: transformers",
    f"pipeline_tag: {'text-classification' if is_scalar else 'text-generation'}",
    "tags: [pit, self-improvement, preference-learning]",
    "---",
    "",
    f"# {name}",
    "",
    f"{_made(found, results)} (PIT, arXiv 2310.00898); {MODELS[name]}.",
    "",
  ]
  if base and not found.is_published:
    lines += _loading(name, is_scalar)
  if results is None:
    return "\n".join([*lines, "The run has no report.", ""])
  lines += [verdict.headline(results), "", "| system | against | judge | Δ | 95% interval | n |"]
  lines += ["|---|---|---|---|---|---|"]
  for row in verdict.presentable(results)["comparisons"]:
    if not verdict.is_judged(row):
      continue
    low, high = map(verdict.signed, row["ci95"])
    cells = [row["a"], row["b"], row["judge"], verdict.signed(row["delta"]), f"{low} to {high}"]
    lines.append(f"| {' | '.join(cells)} | {row['n']:,} |")
  return "\n".join([*lines, "", "Δ is wins minus losses in percent of held-out prompts.", ""])


def _loading(name: str, is_scalar: bool) -> list[str]:
  """Returns how PEFT opens adapters, which knows neither labels nor where a base was moved to."""
  kind = "SequenceClassification" if is_scalar else "CausalLM"
  more = ", num_labels=1" if is_scalar else ""
  return [
    "```python",
    f"from peft import AutoPeftModelFor{kind}",
    "",
    f'model = AutoPeftModelFor{kind}.from_pretrained("{name}"{more})',
    "```",
    "",
    f"The base lies beside it, at `base_model_name_or_path` of {peft.CONFIG}: change that when the "
    "directories are moved.",
    "",
  ]


def _made(found: export.Exported, results: Mapping[str, Any] | None) -> str:
  """Returns whose work a model is."""
  if not found.is_published:
    return "Trained with pit_jax"
  name = results and pathlib.Path(results["config"]["reward"]["model"]).name
  source = f"The published reward model {name}" if name else "A published reward model"
  return (
    f"{source}, not trained but scaled by pit_jax to mean 0 and deviation 1 on samples of a "
    "fine-tuned policy"
  )
