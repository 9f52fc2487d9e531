"""Models in and out: what others wrote becomes a model directory, a run's models go to others.

A model directory is what transformers writes and reads: config.json, safetensors, tokenizer. Runs
start from one (`config.model.base`) and keep their own models as such; see exchange/hf.py.
"""

import contextlib
import dataclasses
import os
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

import transformers

from pit_jax import parallel
from pit_jax.data import hf_text, text
from pit_jax.exchange import (
  bundle,
  cards,
  classifier_files,
  directories,
  export,
  families,
  gguf,
  hf,
  merging,
  peft,
  weights,
)
from pit_jax.models import pure
from pit_jax.report import presentation
from pit_jax.rollout import classifiers

SHOWN = ("improver", "gap_reward")  # models that a reference is shown to
ROOM = 256  # tokens that a card's example may have: more than any form makes of it


def bring_in(
  source: str | os.PathLike,
  output: str | os.PathLike,
  *,
  dtype: str = "float32",
  tokenizer: str | os.PathLike | None = None,
  adapter: str | os.PathLike | None = None,
) -> pure.PureModel:
  """Writes a model directory from a GGUF file or from another model directory.

  Its card names the source and its licence, which cards of models trained from it take over.

  Args:
    source: a .gguf file, or a directory with config.json and safetensors.
    output: the directory to write.
    dtype: of the tensors written.
    tokenizer: a tokenizer directory; None is the adapters' own, else the source's.
    adapter: a directory of PEFT with adapters of the source, which are merged; None for none.

  Returns:
    The model that was written, a scalar one if the source or what adapters make of it classifies.

  Raises:
    ValueError: if anything in the source is not supported or does not fit; the message names it.
  """
  source = pathlib.Path(source)
  output = pathlib.Path(output)
  is_file = source.suffix == ".gguf"
  if not is_file:
    directories.refuse_adapters(source)
  if output.is_dir() and source.is_dir() and output.samefile(source):
    raise ValueError(f"{output} is the source itself, which would be overwritten; give another")
  # Those who train adapters write their tokenizer beside them.
  has_own = adapter is not None and (pathlib.Path(adapter) / "tokenizer.json").is_file()
  speaker = pathlib.Path(tokenizer or (adapter if has_own else source))

  words = text.load_tokenizer(speaker)
  opened = gguf.File(source) if is_file else hf.Directory(source)
  shape = opened.config if is_file else hf.read(source)
  is_scalar = not is_file and families.is_classifier(source)
  origin = cards.of_file(source, opened.field) if is_file else cards.of_directory(source)

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
  if is_scalar:  # it is read at the last token that is not its own file's padding
    special_ids = {"pad_token_id": classifiers.pad_id(classifier_files.published_config(source))}
    hf.save(output, model, params, dtype=dtype, **special_ids)
    hf_text.read(speaker).save_pretrained(output)
  else:
    hf.save(output, model, params, dtype=dtype, **words.special_ids)
    words.save(output, keeps_bos=True)

  origin.write(output)
  return model


def described(directory: str | os.PathLike, model: pure.PureModel) -> str:
  """Returns in words what `bring_in` wrote into a directory, and the value that trains from it."""
  kind = directories.read_object(pathlib.Path(directory) / "config.json")["model_type"]
  parts = [f"{_counted(model.size)} parameters", kind]
  if pure.is_scalar(model):
    return f"{', '.join(parts)}, a reward model → --config.reward.model={directory}"

  has_chat = text.load_tokenizer(pathlib.Path(directory)).chat_template is not None
  parts.append(f"chat template: {'yes' if has_chat else 'no'}")
  return f"{', '.join(parts)} → --config.model.base={directory}"


def _counted(number: int) -> str:
  """Returns a large number in three digits and words."""
  for size, word in ((10**9, "billion"), (10**6, "million")):
    if number >= size:
      return f"{number / size:.3g} {word}"
  return f"{number:,}"


def send_out(
  workdir: str | os.PathLike,
  output: str | os.PathLike,
  names: Sequence[str] | None = None,
  *,
  dtype: str = "float32",
  as_adapters: bool = False,
  license: str | None = None,
  method: presentation.Presentation = presentation.ANY,
  system: str = "",
) -> list[pathlib.Path]:
  """Writes models of a finished run as directories for transformers and vLLM; returns the paths.

  Each gets the tokenizer, the run's template as its chat template, a generation config, and a
  model card with lines of Python that ask it, and the run's figures. A published reward model
  keeps its own tokenizer and template, and its card says that it was not trained here.

  Args:
    workdir: folder of the run.
    output: folder of the directories, one per model.
    names: of the models; see `cards.KINDS`. None are all that the run has.
    dtype: of the tensors written, their base's included; adapters are float32.
    as_adapters: write what each model adds to the base they share, as PEFT reads it, and the base
      into OUTPUT/base; else adapters are merged. A published reward model is whole either way.
    license: of what is written, as the Hub abbreviates it; None is what the base's card names.
    method: what cards say of the run's method.
    system: of the report, whose policy the run has; "" where it is what the run exported.

  Raises:
    ValueError: if the run is not finished, has no such model, or no adapters where they are asked
      for; or another base lies in OUTPUT/base, on which other adapters may stand; or a model that
      was written in another form lies where one is to be written.
  """
  workdir = pathlib.Path(workdir)
  output = pathlib.Path(output)
  written = []
  results = _read_json(workdir / "report" / "results.json")
  config = results["config"] if results else _read_json(workdir / "config.json") or {}
  mesh = parallel.make_mesh((1, 1, 1))
  form = peft.KIND if as_adapters else dtype
  present = [name for name in cards.KINDS if (workdir / export.FOLDER / name).is_dir()]

  wanted = names or present or cards.KINDS  # without any, the first one says the run has none
  # One that was published by others has a form of its own.
  own = [name for name in wanted if name != "reward" or not config.get("reward", {}).get("model")]
  for name in own:
    _check_place(output / name, form)

  for name in wanted:
    written.append(directory := output / name)
    if name == "reward" and (published := export.load_published(workdir, mesh=mesh)):
      source = config.get("reward", {}).get("model", "")
      licensed = cards.license_of(source)  # read first: the card takes the place of its own
      facts = _write_published(directory, published, dtype, source)
    else:
      exported = export.load_one(workdir, name, mesh=mesh)
      if as_adapters:
        _write_base(workdir, output, exported, dtype)
      _write_model(directory, name, exported, dtype, as_adapters)
      licensed = cards.license_of(config.get("model", {}).get("base", ""))
      settings = exported.asking.settings
      facts = {
        "made": "Trained with pit_jax",
        "base": cards.base_of(config),
        "datasets": cards.datasets_of(config),
        "limits": (settings.max_prompt_length, settings.max_response_length),
        "score": _score(name, exported),
        "has_adapters": as_adapters,
        "is_opened_alike": cards.is_opened_alike(directory),
      }

    named = {"name": name, "license": license or licensed, "results": results, "method": method}
    cards.Card(**named, **facts, system=system).write(directory)

  return written


def _check_place(directory: pathlib.Path, form: str) -> None:
  """Raises a ValueError where a model lies in another form, a dtype or adapters."""
  there = form
  if peft.is_adapter(directory):
    there = peft.KIND
  elif described := _read_json(directory / "config.json"):
    there = described.get("dtype") or described.get("torch_dtype") or form

  if there != form:
    raise ValueError(
      f"{directory} holds a model in {there}, which one in {form} would replace; remove it, or "
      "give another --output"
    )


def _write_model(
  directory: pathlib.Path, name: str, found: export.Exported, dtype: str, has_adapters: bool
) -> None:
  """Writes a model, or what it adds to its base, with its tokenizer and template."""
  is_scored = name in cards.SCORED
  tokenizer = found.asking.settings.tokenizer
  written = (directory, found.model, found.params)
  if has_adapters:
    peft.save(*written, base=bundle.BASE, **tokenizer.special_ids)
    # With one, transformers takes the directory for a whole model, whose weights it misses.
    (directory / "config.json").unlink()
  else:
    hf.save(*written, dtype=dtype, **tokenizer.special_ids)

  form = found.asking.settings.template
  options = {"shows_reference": name in SHOWN}
  # Those who score read a whole text; those who serve get the tokenizer that other tools know.
  borders = form.borders(**options) if is_scored else ()
  tokenizer.save(directory, form.chat(tokenizer, **options, is_scored=is_scored), borders=borders)
  if not is_scored:
    _sampling(found).save_pretrained(directory)


def _sampling(found: export.Exported) -> transformers.GenerationConfig:
  """Returns the generation config of a language model: the whole distribution is sampled."""
  tokenizer = found.asking.settings.tokenizer
  ends = {"eos_token_id": list(tokenizer.stop_ids), "pad_token_id": tokenizer.pad_id}
  # No top_k, since transformers cuts at 50 tokens by default.
  whole = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
  length = found.asking.response_length
  return transformers.GenerationConfig(**whole, **ends, max_new_tokens=length)


def _write_base(
  workdir: pathlib.Path, output: pathlib.Path, found: export.Exported, dtype: str
) -> None:
  """Writes the base that a run's adapters share, all or nothing; the same one may lie there."""
  if found.model.config.adapter is None:
    raise ValueError(
      f"{workdir}: its models have no adapters, every weight was trained; export them whole"
    )

  source = workdir / export.FOLDER / bundle.BASE
  base = output / bundle.BASE
  partial = output / f"{bundle.BASE}.partial"
  tokenizer = found.asking.settings.tokenizer
  shutil.rmtree(partial, ignore_errors=True)
  # What makes a classifier of it reads the number of labels, and what samples from it how, here.
  model = pure.language_model(families.read(source))
  fields = {**tokenizer.special_ids, "num_labels": 1, "problem_type": "regression"}
  hf.save(partial, model, hf.load(source, model), dtype=dtype, **fields)
  tokenizer.save(partial)
  _sampling(found).save_pretrained(partial)

  # Under its name only when whole: a kill leaves no half of a base.
  if not base.exists():
    partial.rename(base)
    return

  written = hf.fingerprint(partial)
  is_same = False
  with contextlib.suppress(OSError, ValueError):  # no whole model lies there
    is_same = hf.fingerprint(base) == written
  shutil.rmtree(partial)
  if not is_same:
    raise ValueError(
      f"{base} is not the base of {workdir} in {dtype}, and adapters beside it may need it; remove "
      "it, or give another --output"
    )


def _read_json(path: pathlib.Path) -> dict[str, Any] | None:
  """Returns the object that a file holds; None where there is no such file."""
  return export.read_object(path) if path.is_file() else None


def _score(name: str, found: export.Exported) -> float | None:
  """Returns the run's score of the card's example; None of a model that gives none."""
  if name not in cards.SCORED:
    return None
  limits = {"max_prompt_length": ROOM, "max_response_length": ROOM}
  settings = dataclasses.replace(found.asking.settings, **limits)
  asking = dataclasses.replace(found.asking, settings=settings, response_length=ROOM)
  texts = ([cards.QUESTION], [cards.ANSWER])
  if name == "reward":
    return float(asking.rate(found.params, *texts)[0])

  return float(asking.gaps(found.params, *texts, [cards.REFERENCE])[0])


def _write_published(
  directory: pathlib.Path, classifier: classifiers.Classifier, dtype: str, source: str
) -> dict[str, Any]:
  """Writes a published reward model, which came from `source`; returns what its card says."""
  gain = classifier_files.save(directory, classifier, dtype=dtype)["gain"]
  reader = classifier.reader
  name = pathlib.Path(source).name
  what = f"The published reward model {name}" if name else "A published reward model"
  scaled = "scaled by pit_jax to deviation 1 on samples of a fine-tuned policy"

  return {
    "made": f"{what}, not trained but {scaled}",
    "base": cards.model_of(source) if source else None,
    "datasets": [],
    "limits": (reader.max_length - reader.max_answer_length, reader.max_answer_length),
    "score": float(classifier.rate([cards.QUESTION], [cards.ANSWER])[0]),
    "has_adapters": False,
    # What PyTorch computes was opened as AutoTokenizer does.
    "is_opened_alike": classifier.params is None or cards.is_opened_alike(directory),
    "published": cards.Published(is_pair=reader.form is None, gain=gain or 1.0),
  }
