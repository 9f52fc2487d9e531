"""A reward model that reads principles: what each list makes of it, as the reward of RL."""

import dataclasses
import hashlib
import random
from collections.abc import Sequence

import numpy as np

from pit_jax import hosts, layout, parallel
from pit_jax.data import conversations, padding, preferences, principles
from pit_jax.models import pure
from pit_jax.recipes.salmon import implicit
from pit_jax.rollout import inference as inferences
from pit_jax.run import context as contexts
from pit_jax.stages import calibration, reward, rl
from pit_jax.types import Params

Model = reward.RewardModel | implicit.Implicit  # that reads principles


@dataclasses.dataclass(frozen=True)
class Conditioned:
  """A reward model under a list of principles, in the unit of that list."""

  context: contexts.Context  # of the reward model's stage, see `reading`
  model: Model
  bank: principles.Bank
  shown: tuple[principles.Shown, ...]  # the list; () draws anew for every response
  facts: dict  # gain and shift of mean 0, deviation 1 on samples of the policy that RL begins with

  @property
  def value(self) -> Params:
    """The first value model: the reward model's trunk and head, in the same unit.

    Where it has no head, the value model has a fresh one, on the trunk of the policy.
    """
    params = self.model.params
    if isinstance(self.model, implicit.Implicit):
      key = self.context.key("value head")
      trunk = {"trunk": self.model.reference["trunk"]}
      return pure.complete(self.context.models.scalar, key, trunk)
    head = np.asarray(params["head"]) * np.float32(self.facts["gain"])
    return {**params, "head": head, "bias": np.float32(self.facts["shift"])}

  def signal(self, questions: Sequence[conversations.Prompt]) -> rl.RewardFn:
    """Returns what RL maximises, of texts of a stage's prompts.

    What the reward model reads is built anew for every response. Which principles are drawn for it
    is a function of the run's seed, of the prompt's place and of the response, so that an iteration
    that is repeated after a restart has the same rewards.
    """
    context = self.context
    inference = context.models.inference
    settings = dataclasses.replace(inference.settings, over_long="cut")
    shown_in = settings.formats["policy"]

    def score(rows, _, responses):
      sampled = hosts.fetch(responses)
      asked = [questions[row] for row in rows]
      tokens = np.asarray(sampled.tokens)
      lists = [
        self._list(question, f"{row} {_digest(one)}")
        for row, question, one in zip(rows, asked, tokens, strict=True)
      ]
      words = inference.words(sampled)
      if isinstance(self.model, implicit.Implicit):
        scores = rated(inference, self.model, self.bank, asked, words, lists)
        return parallel.put_batch(self.facts["gain"] * scores + self.facts["shift"], context.mesh)
      prompts, answers = _read(self.bank, asked, words, lists)
      ids = settings.encode(shown_in.conversations(prompts)).ids
      # Of one width, whichever principles were drawn: another one would be compiled anew.
      width = padding.bucket(settings.max_prompt_length)
      placed = parallel.put_batch(
        padding.pad_prompts(ids, width, settings.tokenizer.pad_id), context.mesh
      )
      if self.bank.is_after:
        responses = parallel.put_batch(inference.responses(answers), context.mesh)
      scores = inference.sample_scorer(layout.to_devices(self.model.params), placed, responses)
      return self.facts["gain"] * scores + self.facts["shift"]

    return score

  def _list(self, prompt: conversations.Prompt, what: str) -> Sequence[principles.Shown]:
    if self.shown:
      return self.shown
    config = self.context.config
    rng = random.Random(f"drawn {config.seed} {what}")
    return [principles.Shown(one) for one in self.bank.draw(rng, prompt, config.salmon.drawn)]

  def rate(self, questions: Sequence[conversations.Prompt], answers: Sequence[str]) -> np.ndarray:
    """Returns the scores of answers in the model's own unit, Float[N]."""
    lists = [self._list(question, f"rated {i}") for i, question in enumerate(questions)]
    asking = self.context.models.inference
    return rated(asking, self.model, self.bank, questions, answers, lists)


def rated(
  asking: inferences.Inference,
  model: Model,
  bank: principles.Bank,
  questions: Sequence[conversations.Prompt],
  answers: Sequence[str],
  lists: Sequence[Sequence[principles.Shown]],
) -> np.ndarray:
  """Returns the scores of answers, each under a list of principles, in a model's unit, Float[N]."""
  prompts, texts = _read(bank, questions, answers, lists)
  if isinstance(model, implicit.Implicit):
    return model.asked(asking).rate(questions, prompts, texts)
  return asking.rate(model.params, prompts, texts)


def _read(
  bank: principles.Bank,
  questions: Sequence[conversations.Prompt],
  answers: Sequence[str],
  lists: Sequence[Sequence[principles.Shown]],
) -> tuple[list[conversations.Prompt], list[str]]:
  rows = zip(questions, answers, lists, strict=True)
  prompts, texts = zip(*(bank.read(*row) for row in rows), strict=True)
  return list(prompts), list(texts)


def reading(context: contexts.Context, bank: principles.Bank) -> contexts.Context:
  """Returns the context of reward models, which may read longer responses than are sampled."""
  if not bank.length:
    return context
  asking = context.models.inference.reading(bank.length)
  rows = dataclasses.replace(context.rows, settings=asking.settings)
  return dataclasses.replace(
    context, rows=rows, models=dataclasses.replace(context.models, inference=asking)
  )


def under(
  context: contexts.Context,
  name: str,
  model: Model,
  bank: principles.Bank,
  shown: tuple[principles.Shown, ...],
  policy: Params,
) -> Conditioned:
  """Returns a reward model under a list, whose scores have deviation 1 on samples of a policy.

  Each list has a unit of its own, so that a nat costs the same under all; it is recorded in
  calibration/NAME.json.
  """
  fold = context.rows.fold(context.config.reward.fold)
  questions = [row.prompt for row in preferences.distinct(fold.validation)]
  bare = Conditioned(context, model, bank, shown, {})

  def sample(key, temperature):
    answers = context.models.inference.answer(policy, questions, key, temperature)
    return bare.rate(questions, answers)

  return dataclasses.replace(bare, facts=calibration.calibrate(context, name, dict, sample))


def check_lengths(
  context: contexts.Context, bank: principles.Bank, questions: Sequence[conversations.Prompt]
) -> principles.Bank:
  """Returns the bank with the most tokens of a response that a reward model reads.

  What is shown are the longest sentences, as many as a row may show.

  Raises:
    ValueError: a prompt with principles is longer than the models read.
  """
  settings = context.rows.settings
  tokens = settings.tokenizer
  longest = [
    max((principles.Shown(one), principles.Shown(one, True)),
        key=lambda shown: len(tokens.encode_batch([shown.sentence])[0]))
    for one in bank.principles
  ]  # fmt: skip
  most = sorted(longest, key=lambda one: -len(one.sentence))[: principles.MOST]
  whole = dataclasses.replace(settings, max_prompt_length=1 << 20, over_long="cut")
  asked = [bank.show(question, most) for question in dict.fromkeys(questions)]
  lengths = [len(row) for row in whole.encode(whole.formats["policy"].conversations(asked)).ids]
  if (over := sum(length > settings.max_prompt_length for length in lengths)) > 0:
    raise ValueError(
      f"data.max_prompt_length={settings.max_prompt_length} has no room for {over} of "
      f"{len(lengths)} prompts with {len(most)} principles, the longest of {max(lengths)} tokens; "
      "use more, or fewer or shorter principles"
    )
  if not bank.is_after:
    return bank

  texts = [bank.read(question, "", most)[1] for question in dict.fromkeys(questions)]
  (encoded,) = dataclasses.replace(whole, max_response_length=None).encode_responses(texts)
  added = max(map(len, encoded.ids))
  return dataclasses.replace(bank, length=padding.bucket(settings.max_response_length + added))


def _digest(tokens: np.ndarray) -> str:
  """Returns what tells one response from another, the same in every process."""
  return hashlib.blake2b(tokens.tobytes(), digest_size=8).hexdigest()
