"""Model cards: what an exported model is, and lines of Python that ask it as the run did."""

import dataclasses
import pathlib
import re
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

import huggingface_hub
import jinja2
import transformers
import yaml

from pit_jax import config_keys
from pit_jax.report import presentation, verdict

KINDS = {  # model of a run → what it is
  "policy": "the policy: answers a question",
  "improver": "the improver: shown a question and an answer to it, writes a better one",
  "reward": "the reward model: scores an answer",
  "gap_reward": "the gap reward model: scores how much better an answer is than another",
  "implicit_reward": "a language model to which an answer is the likelier, the better it is",
  "reference": "the language model with which `implicit_reward` is compared",
}
UNITS = {"reward": "R_P", "gap_reward": "R_PIT"}  # model that scores → its name in the results
SCORED = tuple(UNITS)
# What the cards' examples ask; short, so that every run's limits have room for it.
QUESTION = "1 + 1 = ?"
REFERENCE = "3"
ANSWER = "2"
UNKNOWN = "other"  # what the Hub calls a licence that it does not know
IMPORTED = "pit_jax-imported"  # tag of cards of models that were brought in, and not trained
# Of general.* in a GGUF file, what a card repeats.
GENERAL = ("name", "organization", "basename", "size_label", "license", "repo_url")
_CACHED = re.compile(r"models--(.+?)--(.+)")  # of the Hub's cache, the folder of OWNER/NAME
TEMPLATES = jinja2.Environment(
  loader=jinja2.PackageLoader("pit_jax.exchange"),
  trim_blocks=True,
  lstrip_blocks=True,
  undefined=jinja2.StrictUndefined,
)


@dataclasses.dataclass(frozen=True)
class Published:
  """The inputs of a published reward model, which keeps its own tokenizer and template."""

  is_pair: bool  # does it read question and answer as a text pair? Else its chat template
  gain: float  # what its logit is multiplied by; 1 where that is in its head


@dataclasses.dataclass(frozen=True)
class Card:
  """The model card of an exported model."""

  name: str  # of the model; see `KINDS`
  made: str  # whose work it is
  license: str | None  # as the Hub abbreviates it; None where nobody named one
  base: str | None  # what it was made from, as the Hub would call it; None for nothing
  datasets: list[str]  # what it was trained on, as the Hub would call them
  limits: tuple[int, int]  # the most tokens of a prompt and of an answer
  score: float | None  # of `ANSWER`; None of a model that gives none
  has_adapters: bool  # does its directory hold adapters, beside their base?
  is_opened_alike: bool  # does AutoTokenizer open its tokenizer as the run did?
  results: Mapping[str, Any] | None  # of the run; None where it has no report
  method: presentation.Presentation  # what is said of the run's method
  system: str = ""  # of the results, whose policy it is; "": what the run exported
  published: Published | None = None  # how it is asked where it was published by others

  def write(self, directory: pathlib.Path) -> None:
    """Writes the card into the model's directory: metadata as the Hub reads it, and a text."""
    is_scored = self.name in SCORED
    task = "text-classification" if is_scored else "text-generation"
    unnamed = {} if self.license else {"license_name": "unnamed"}
    data = huggingface_hub.ModelCardData(
      license=self.license or UNKNOWN,
      **unnamed,
      base_model=self.base,
      datasets=self.datasets,
      library_name="peft" if self.has_adapters else "transformers",
      pipeline_tag=task,
      tags=list(self.method.tags),
    )

    shown = {"card": self, "kind": KINDS[self.name], "task": task, "is_scored": is_scored}
    shown |= {"question": QUESTION, "reference": REFERENCE, "answer": ANSWER}
    if self.results:
      compared = verdict.presentable(self.results, self.method)["comparisons"]
      shown["comparisons"] = list(filter(verdict.is_judged, compared))
      shown["headline"] = verdict.headline(self.results, self.method)

    unit = (self.results or {}).get("reward_models", {}).get(UNITS.get(self.name), {})
    template = TEMPLATES.get_template("card.md.jinja")
    text = template.render(shown, published=self.published, unit=unit, signed=verdict.signed)
    content = f"---\n{data.to_yaml()}\n---\n\n{text}"
    (directory / "README.md").write_text(content, encoding="utf-8")


@dataclasses.dataclass(frozen=True)
class Source:
  """What an imported model was, by its file or its directory."""

  name: str  # as the Hub would call it
  license: str | None  # as the Hub abbreviates it; None where nobody named one
  described: Mapping[str, str]  # what its file says of itself

  def write(self, directory: pathlib.Path) -> None:
    """Writes the card of the imported model, which those of models trained from it go by."""
    # A licence that nobody named is left out: the Hub's word for it would be taken over as one.
    named = {"license": self.license, "base_model": self.name, "tags": [IMPORTED]}
    data = huggingface_hub.ModelCardData(**named, library_name="transformers")
    lines = [f"# {directory.resolve().name}", "", f"Brought in by pit_jax from {self.name}.", ""]
    lines += [f"- {field.replace('_', ' ')}: {value}" for field, value in self.described.items()]
    content = "\n".join([f"---\n{data.to_yaml()}\n---\n", *lines]).rstrip() + "\n"
    (directory / "README.md").write_text(content, encoding="utf-8")


def of_file(path: pathlib.Path, field: Callable[[str], Any]) -> Source:
  """Returns what a GGUF file says of its model: its general.license and the like.

  Args:
    path: of the file, by which the model is called where the file has no name for it.
    field: returns a field of the file's description, None where it lacks it.
  """
  described = {name: str(value) for name in GENERAL if (value := field(f"general.{name}"))}
  address = urllib.parse.urlsplit(described.get("repo_url", "")).path.strip("/").split("/")
  names = [described.get("organization"), described.get("basename", described.get("name"))]
  parts = address if len(address) == 2 else list(filter(None, names)) or [path.stem]
  return Source("/".join(map(_plain, parts)), described.get("license"), described)


def of_directory(path: pathlib.Path) -> Source:
  """Returns what a model's directory says of it, in its card and by its own name."""
  return Source(model_of(str(path)), license_of(str(path)), {})


def base_of(config: Mapping[str, Any]) -> str | None:
  """Returns the base model of a run, as the Hub would call it; None for nothing."""
  named = config.get("model", {}).get("base", "none")
  if named == "auto":
    named = "embedded" if config_keys.is_embedded(config["data"]["source"]) else "none"
  shipped = ("embedded", "embedded_weak", "embedded_words")
  known = {"none": None} | {name: f"pit_jax-{name}" for name in shipped}
  if named in known:
    return known[named]
  data = _data_of(named)
  # The card of a directory that was published names what that was made from in its turn.
  return data.base_model if data and IMPORTED in (data.tags or ()) else model_of(named)


def model_of(directory: str) -> str:
  """Returns the Hub's name of a directory's model: OWNER/NAME, or the folder's name."""
  path = pathlib.Path(directory)
  for folder in reversed(path.parts):
    if cached := _CACHED.fullmatch(folder):
      return "/".join(cached.groups())

  return _plain(path.resolve().name)


def datasets_of(config: Mapping[str, Any]) -> list[str]:
  """Returns the datasets of a run, as the Hub would call them."""
  source = config.get("data", {}).get("source")
  if source is None:
    return []
  kind, _, rest = source.partition(":")
  if config_keys.is_embedded(source):
    return ["pit_jax-synthetic"]
  name = rest.partition(":")[0]
  if kind == "hf" and not pathlib.Path(name).is_absolute():
    return ["/".join(map(_plain, name.split("/")[:2]))]

  return [_plain(pathlib.PurePath(rest).name.partition(".")[0]) or kind]


def license_of(directory: str) -> str | None:
  """Returns the licence that the card of a model's directory names; None where there is none."""
  data = _data_of(directory)
  return data.license if data else None


def _data_of(directory: str) -> huggingface_hub.CardData | None:
  """Returns the metadata of the card in a model's directory; None where there is none."""
  path = pathlib.Path(directory) / "README.md"
  if not directory or not path.is_file():
    return None

  try:
    return huggingface_hub.ModelCard.load(path).data
  except (OSError, ValueError, yaml.YAMLError):  # somebody else's card, of which nothing depends
    return None


def is_opened_alike(directory: pathlib.Path) -> bool:
  """Returns whether AutoTokenizer opens a directory's tokenizer as its file says.

  Of some families transformers rebuilds parts of it, such as how texts are split.
  """
  ways = (transformers.AutoTokenizer, transformers.PreTrainedTokenizerFast)
  first, second = (way.from_pretrained(directory, local_files_only=True) for way in ways)
  return first.backend_tokenizer.to_str() == second.backend_tokenizer.to_str()


def _plain(name: str) -> str:
  """Returns a name with such characters alone as names of the Hub have."""
  return re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII).strip("-.")
