"""Model cards: what an exported model is, and lines of Python that ask it as the run did."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import huggingface_hub
import transformers
import yaml

from pit_jax.report import presentation, verdict

KINDS = {  # model of a run → what it is
  "policy": "the policy: answers a question",
  "improver": "the improver: shown a question and an answer to it, writes a better one",
  "reward": "the reward model: scores an answer",
  "gap_reward": "the gap reward model: scores how much better an answer is than another",
}
UNITS = {"reward": "R_P", "gap_reward": "R_PIT"}  # model that scores → its name in the results
SCORED = tuple(UNITS)
# What the cards' examples ask; short, so that every run's limits have room for it.
QUESTION = "1 + 1 = ?"
REFERENCE = "3"
ANSWER = "2"
UNKNOWN = "other"  # what the Hub calls a licence that it does not know
_CACHED = re.compile(r"models--(.+?)--(.+)")  # of the Hub's cache, the folder of OWNER/NAME


@dataclasses.dataclass(frozen=True)
class Published:
  """The inputs of a published reward model, which keeps its own tokenizer and template.

  Attributes:
    is_pair: whether it reads question and answer as a text pair; else its chat template.
    gain: what its logit is multiplied by; 1 where that is in its head.
  """

  is_pair: bool
  gain: float

  def code(self, way: str) -> list[str]:
    """Returns the lines that ask it, its tokenizer opened in a way."""
    kind = "AutoModelForSequenceClassification"
    opening = [
      "import transformers",
      "",
      f'words = transformers.{way}.from_pretrained("reward")',
      f'model = transformers.{kind}.from_pretrained("reward").eval()',
    ]

    if self.is_pair:
      request = [f'read = words("{QUESTION}", "{ANSWER}", return_tensors="pt")']
    else:
      messages = f'{{"role": "user", "content": "{QUESTION}"}}'
      messages += f', {{"role": "assistant", "content": "{ANSWER}"}}'
      request = [f"messages = [{messages}]"]
      request.append('read = words.apply_chat_template(messages, return_tensors="pt")')

    inputs = "**read" if self.is_pair else 'read["input_ids"]'
    scaled = "" if self.gain == 1 else f" * {self.gain!r}"
    return [*opening, *request, f"print(model({inputs}).logits.item(){scaled})"]


@dataclasses.dataclass(frozen=True)
class Card:
  """The model card of an exported model.

  Attributes:
    name: of the model; see `KINDS`.
    made: whose work it is.
    license: as the Hub abbreviates it; None where nobody named one.
    base: what it was made from, as the Hub would call it; None for nothing.
    datasets: what it was trained on, as the Hub would call them.
    limits: the most tokens of a prompt and of an answer.
    score: of `ANSWER`; None of a model that gives none.
    has_adapters: whether its directory holds adapters, beside their base.
    is_opened_alike: whether AutoTokenizer opens its tokenizer as the run did.
    results: of the run; None where it has no report.
    method: what is said of the run's method.
    published: how it is asked where it was published by others.
  """

  name: str
  made: str
  license: str | None
  base: str | None
  datasets: list[str]
  limits: tuple[int, int]
  score: float | None
  has_adapters: bool
  is_opened_alike: bool
  results: Mapping[str, Any] | None
  method: presentation.Presentation
  published: Published | None = None

  def write(self, directory: pathlib.Path) -> None:
    """Writes the card into the model's directory."""
    is_scored = self.name in SCORED
    by = f" ({self.method.title})" if self.method.title else ""
    lines = [f"# {self.name}", "", f"{self.made}{by}; {KINDS[self.name]}.", ""]
    lines += ["In the folder that holds this directory:", "", "```python", *self._code(), "```", ""]
    lines += _wrapped(self._messages())
    lines += _wrapped(self._unit()) if is_scored else []
    lines += _wrapped(_adapters(self.name)) if self.has_adapters else []
    lines += [] if self.is_opened_alike else _wrapped(_tokenizer(self.name))

    lines += [] if self.license else _wrapped(_licence())
    lines += _figures(self.results, self.method) if self.results else ["The run has no report.", ""]
    text = f"---\n{self._data()}\n---\n\n" + "\n".join(lines)
    (directory / "README.md").write_text(text, encoding="utf-8")

  def _data(self) -> str:
    """Returns the metadata of a card as the Hub reads it, in YAML."""
    unnamed = {} if self.license else {"license_name": "unnamed"}
    data = huggingface_hub.ModelCardData(
      license=self.license or UNKNOWN,
      **unnamed,
      base_model=self.base,
      datasets=self.datasets,
      library_name="peft" if self.has_adapters else "transformers",
      pipeline_tag="text-classification" if self.name in SCORED else "text-generation",
      tags=list(self.method.tags),
    )

    return data.to_yaml()

  def _code(self) -> list[str]:
    """Returns the lines that ask the model."""
    if self.published:
      way = "AutoTokenizer" if self.is_opened_alike else "PreTrainedTokenizerFast"
      *lines, last = self.published.code(way)
      return [*lines, f"{last}  # {self.score:.6f}"]

    task = "text-classification" if self.name in SCORED else "text-generation"
    # Pipelines may turn scores into probabilities unless told not to.
    options = ', function_to_apply="none"' if self.name in SCORED else ""
    turns = [("user", QUESTION)]
    turns += [("assistant", REFERENCE)] if self.name in ("improver", "gap_reward") else []
    turns += [("assistant", ANSWER)] if self.name in SCORED else []
    opening = ["import transformers", ""]

    if not self.is_opened_alike:
      opening.append(f'words = transformers.PreTrainedTokenizerFast.from_pretrained("{self.name}")')
      options = f", tokenizer=words{options}"
    elif self.has_adapters:  # or the base's own is taken, with the base's template
      options = f', tokenizer="{self.name}"{options}'

    opening.append(f'model = transformers.pipeline("{task}", "{self.name}"{options})')
    messages = [f'{{"role": "{role}", "content": "{content}"}}' for role, content in turns]
    request = [f"messages = [{', '.join(messages)}]"]

    if self.name in SCORED:
      request.append("text = model.tokenizer.apply_chat_template(messages, tokenize=False)")
      return [*opening, *request, f'print(model(text)[0]["score"])  # {self.score:.6f}']

    options = "return_full_text=False"
    # Where the last message is the assistant's, pipelines write on instead of answering.
    options += ", continue_final_message=False" if self.name == "improver" else ""
    return [*opening, *request, f'print(model(messages, {options})[0]["generated_text"])']

  def _messages(self) -> str:
    """Returns a paragraph on the messages that the model takes."""
    advice = {
      "policy": "The last message is the user's.",
      "improver": "The last two messages are the user's, and as the assistant's the answer that is "
      "to be improved; the template itself asks for a better one.",
      "reward": "The last two messages are the user's, and as the assistant's the answer that is "
      "scored. The template writes the end of the answer, where the score is read, and nothing "
      "after it.",
      "gap_reward": "The last three messages are the user's, and as two of the assistant's the "
      "reference and the answer. The template writes the end of the answer, where the score is "
      "read, and nothing after it.",
    }

    if self.published:
      advice["reward"] = "It reads question and answer as transformers gives them to it."
    prompt, answer = self.limits
    cut = f"The run cut prompts to {prompt:,} tokens and answers to {answer:,}."
    return f"{advice[self.name]} {cut}"

  def _unit(self) -> str:
    """Returns a paragraph on the unit of a score."""
    text = "The printed number, in float32 that of the comment, is the run's score without a bias."
    figures = (self.results or {}).get("reward_models", {})
    figures = figures.get(UNITS[self.name], {})

    if "shift" in figures:
      text += (
        " Its unit is one standard deviation of the scores of samples of the fine-tuned model, "
        f"whose mean is {-figures['shift']:.4f}."
      )

    if self.name == "gap_reward" and "zero_point" in figures:
      text += f" An answer that is its own reference has {figures['zero_point']:.4f} on average."
    return text + " Only differences mean something: where the zero lies is arbitrary."


def base_of(config: Mapping[str, Any]) -> str | None:
  """Returns the base model of a run, as the Hub would call it; None for nothing."""
  named = config.get("model", {}).get("base", "none")
  if named == "auto":
    named = "embedded" if config["data"]["source"] == "synthetic" else "none"
  if named in ("none", "embedded"):
    return "pit_jax-embedded" if named == "embedded" else None

  return model_of(named)


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
  if kind == "synthetic":
    return ["pit_jax-synthetic"]
  name = rest.partition(":")[0]
  if kind == "hf" and not pathlib.Path(name).is_absolute():
    return ["/".join(map(_plain, name.split("/")[:2]))]

  return [_plain(pathlib.PurePath(rest).name.partition(".")[0]) or kind]


def license_of(directory: str) -> str | None:
  """Returns the licence that the card of a model's directory names; None where there is none."""
  path = pathlib.Path(directory) / "README.md"
  if not directory or not path.is_file():
    return None

  try:
    return huggingface_hub.ModelCard.load(path).data.license
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


def _wrapped(text: str) -> list[str]:
  """Returns a paragraph and the empty line after it."""
  return [text, ""]


def _adapters(name: str) -> str:
  kind = "SequenceClassification" if name in SCORED else "CausalLM"
  text = (
    f"The directory holds adapters (LoRA) of `base`, which lies beside it. "
    f'`peft.AutoPeftModelFor{kind}.from_pretrained("{name}")` opens both there too. From another '
    f"folder open the base first: `peft.PeftModel.from_pretrained(transformers.AutoModelFor{kind}"
    f'.from_pretrained("…/base"), "…/{name}")`.'
  )

  if name in SCORED:
    text += (
      " While the base is loaded, a report calls `score.weight` missing and newly initialised: the "
      "base has no head, and the adapters bring it, so nothing is to be trained."
    )

  return text


def _tokenizer(name: str) -> str:
  return (
    "`AutoTokenizer` would replace parts of this tokenizer, how it splits texts above all, by what "
    "the family's first one does: open it by "
    f'`transformers.PreTrainedTokenizerFast.from_pretrained("{name}")`.'
  )


def _licence() -> str:
  return (
    "Nobody named a licence: neither the card of the base did, nor `--license=…` of `launch/"
    "convert.py export`."
  )


def _figures(results: Mapping[str, Any], method: presentation.Presentation) -> list[str]:
  """Returns a table of the run's comparisons under all judges."""
  lines = [verdict.headline(results, method), ""]
  lines += ["| system | against | judge | Δ | 95% interval | n |", "|---|---|---|---|---|---|"]
  for row in verdict.presentable(results, method)["comparisons"]:
    if not verdict.is_judged(row):
      continue
    low, high = map(verdict.signed, row["ci95"])
    cells = [row["a"], row["b"], row["judge"], verdict.signed(row["delta"]), f"{low} to {high}"]
    lines.append(f"| {' | '.join(cells)} | {row['n']:,} |")

  return [*lines, "", "Δ is wins minus losses in percent of held-out prompts.", ""]
