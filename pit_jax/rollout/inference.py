"""Models at work on any number of rows: batch by batch, in words or ids."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pit_jax import hosts, layout, parallel, progress
from pit_jax.data import batches, conversations, encode, padding, prompt_formats
from pit_jax.models import pure
from pit_jax.rollout import continuous, decode, decode_state, packed, programs, scoring
from pit_jax.types import Params, Prompts, Responses


@dataclasses.dataclass(frozen=True)
class Inference:
  """Inference with the models of a run, whose parameters are arguments."""

  language: pure.PureModel  # policy and improver
  scalar: pure.PureModel  # reward and gap reward model
  settings: encode.Settings  # tokenizer, template and length limits
  response_length: int  # R, the most tokens of a sampled response
  # Rows per compiled call; where lengths differ, few rows make a batch of some quarters of it.
  batch_size: int
  mesh: jax.sharding.Mesh
  # Whether lengths differ enough to compile more shapes than one: rows of like length are asked
  # together, with little padding, and sampling gives the places of ended rows to the next prompts.
  by_length: bool = False

  def reading(self, length: int) -> "Inference":
    """Returns the same, for responses of so many tokens."""
    settings = dataclasses.replace(self.settings, max_response_length=length)
    return dataclasses.replace(self, settings=settings, response_length=length)

  def sampler(self, samples: int = 1) -> Callable:
    """Returns the compiled sampling of so many of this run's responses to each prompt."""
    return programs.sampling(
      self.language, self.mesh, is_ragged=self.by_length, **self._of(samples)
    )

  def _of(self, samples: int) -> dict[str, Any]:
    """Returns the settings of sampling that are this run's."""
    tokenizer = self.settings.tokenizer
    ids = {"eos_id": tokenizer.stop_ids, "pad_id": tokenizer.pad_id}
    return {**ids, "length": self.response_length, "samples": samples}

  @property
  def sample_scorer(self) -> Callable:
    """The compiled scoring of responses that were sampled, whichever stop id ended each."""
    return programs.scoring_of(self.scalar, self.mesh, self.settings.tokenizer.stop_ids)

  def sample_batch(
    self,
    params: Params,
    prompts: Prompts,
    key,
    temperature: jax.Array,
    samples: int = 1,
    drafts: Responses | None = None,
  ) -> decode_state.Sampled:
    """Returns responses to every prompt of one batch on the mesh; see `decode.sample`."""
    params = programs.laid_out(self.language, self.mesh, params)
    return self.sampler(samples)(params, prompts, key, temperature, drafts=drafts)

  def respond(
    self, params: Params, prompts: Prompts, key, temperature: float, **how: Any
  ) -> Responses:
    """Samples a response to every prompt, or as many as `sample` is told to."""
    return self.sample(params, prompts, key, temperature, **how).responses

  def sample(
    self,
    params: Params,
    prompts: Prompts,
    key,
    temperature: float,
    *,
    samples: int = 1,
    top_p: float | int | None = None,
    drafts: Responses | None = None,
  ) -> decode_state.Sampled:
    """Returns sampled responses and what is known of them, Float[N k R] for each token.

    Args:
      prompts: N / k prompts; each is read once.
      key: source of the noise, of which each response has its own, whatever batch it is in.
      samples: k, responses to each prompt, which follow one another.
      top_p: as for `decode.sample`, as are temperature and parameters.
      drafts: what the responses to each prompt are likely to repeat, N / k of them; None: nothing.
    """
    params = programs.laid_out(self.language, self.mesh, layout.to_devices(params))
    if self.by_length and len(prompts.tokens) * samples > continuous.FEW_BATCHES * self.batch_size:
      ways = decode.Settings(
        **self._of(samples), **programs.ways_on(self.language, self.mesh, is_ragged=True)
      )
      asked = (self.language, self.mesh, ways, params, prompts, key, temperature)
      return continuous.sample(*asked, self.batch_size, top_p=top_p, drafts=drafts)

    how: dict[str, Any] = {} if top_p is None else {"top_p": np.float32(top_p)}
    # Of one width in all batches, whose programs hence differ by their prompts alone.
    texts = drafts and (drafts.tokens, drafts.mask)

    def ask(batch, rows):
      prompts, texts = batch
      drafts = texts and Responses(*texts)
      numbers = (rows[:, None] * samples + np.arange(samples)).ravel()
      numbers = parallel.put_batch(numbers.astype(np.int32), self.mesh)
      asked = (params, prompts, key, np.float32(temperature))
      return self.sampler(samples)(*asked, numbers=numbers, drafts=drafts, **how)

    return self.over_rows("sampling", ask, (prompts, texts), samples)

  def score(self, params: Params, prompts: Prompts, responses: Responses) -> np.ndarray:
    """Returns a scalar model's score of every response that was encoded, Float[N].

    Of an ensemble of k members it is Float[N k].
    """
    return self.score_all(params, (prompts, responses))[0]

  def score_all(self, params: Params, *asked: tuple[Prompts, Responses]) -> list[np.ndarray]:
    """Returns what `score` does of prompts and responses, several times.

    Texts share rows, and what those of a row share at their beginnings is read once; so this is
    faster than one after the other where they are about the same prompts. See `prefixes.pack`.
    """
    texts = [padding.joined(*pair) for pair in asked]
    sizes = [len(column) for column in texts]
    most = sum(part.mask.shape[1] for part in {id(x): x for pair in asked for x in pair}.values())
    every = list(itertools.chain(*texts))
    model = (self.scalar, self.mesh, layout.to_devices(params))
    size = self.batch_size
    scores = packed.scores(*model, every, most, batch_size=size, by_length=self.by_length)
    return np.split(scores, np.cumsum(sizes)[:-1])

  def score_samples(self, params: Params, prompts: Prompts, responses: Responses) -> np.ndarray:
    """Returns a scalar model's score of every response that was sampled, Float[N]."""
    stop_ids = self.settings.tokenizer.stop_ids
    return self.score(params, prompts, scoring.with_trained_end(responses, stop_ids))

  def logprobs(
    self, params: Params, prompts: Prompts, responses: Responses, temperature: float = 1.0
  ) -> np.ndarray:
    """Returns a language model's log-probability of every response token, Float[N R]."""
    program = programs.logprobs_of(self.language, self.mesh)
    width = responses.tokens.shape[1]
    params = layout.to_devices(params)

    def ask(batch, _):
      logprobs = program(params, *batch, np.float32(temperature))
      # Batches of short rows are narrower; all are joined at one width.
      return jnp.pad(logprobs, ((0, 0), (0, width - logprobs.shape[1])))

    return self.over_rows("reading", ask, (prompts, responses))

  def check_prompt(self, prompt: conversations.Prompt) -> None:
    """Raises a `values.RowError` for a prompt that the models cannot be shown."""
    self.settings.template.check(self.settings.tokenizer, prompt)

  def reply(
    self,
    params: Params,
    asked: Sequence[prompt_formats.Conversation],
    key,
    temperature: float,
    drafts: Sequence[str] | None = None,
    **how: Any,
  ) -> list[str]:
    """Returns a language model's replies in conversations, whatever their format, in words.

    A draft is a text that the reply is likely to repeat. How many samples, and from which tokens,
    is said as to `sample`.
    """
    prompts = encode.prompts(asked, self._cutting)[:]
    repeated = None if drafts is None else self.responses(drafts)
    return self.words(self.respond(params, prompts, key, temperature, drafts=repeated, **how))

  def lengths(self, asked: Sequence[prompt_formats.Conversation]) -> np.ndarray:
    """Returns the length of each conversation in tokens, as a model reads it, Int[N]."""
    return encode.prompts(asked, self._cutting).contents.lengths[:, 0]

  def answer(
    self, policy: Params, questions: Sequence[conversations.Prompt], key, temperature: float
  ) -> list[str]:
    """Returns the policy's answers, in words."""
    chats = self.settings.formats["policy"].conversations(questions)
    return self.reply(policy, chats, key, temperature)

  def revise(
    self,
    improver: Params,
    questions: Sequence[conversations.Prompt],
    drafts: Sequence[str],
    key,
    temperature: float,
  ) -> list[str]:
    """Returns the improver's versions of the drafts, in words."""
    chats = self.settings.formats["improver"].conversations(questions, drafts)
    return self.reply(improver, chats, key, temperature, drafts)

  def rate(
    self, reward: Params, questions: Sequence[conversations.Prompt], answers: Sequence[str]
  ) -> np.ndarray:
    """Returns R_P(x, y) of answers in words, Float[N]."""
    return self.score(reward, self.shown("policy", questions), self.responses(answers))

  def gaps(
    self,
    gap_reward: Params,
    questions: Sequence[conversations.Prompt],
    answers: Sequence[str],
    references: Sequence[str],
  ) -> np.ndarray:
    """Returns R_PIT(x, y, reference) of answers in words, Float[N]."""
    prompts = self.shown("improver", questions, references)
    return self.score(gap_reward, prompts, self.responses(answers))

  def likelihoods(
    self, policy: Params, questions: Sequence[conversations.Prompt], answers: Sequence[str]
  ) -> np.ndarray:
    """Returns log p(y | x) of answers in words, without their end, in nats, Float[N]."""
    prompts = self.shown("policy", questions)
    responses = self.responses(answers)
    # A token counts if another follows it; the last one is the end.
    before_end = np.asarray(responses.mask)[:, 1:]
    return np.where(before_end, self.logprobs(policy, prompts, responses)[:, :-1], 0).sum(axis=1)

  def choice_likelihoods(
    self, policy: Params, questions: Sequence[conversations.Prompt], answers: Sequence[str]
  ) -> np.ndarray:
    """Returns log p(y | x) of a few answers, without their end, in nats, Float[N A].

    All answers, in words, are weighed for every question, which is read once.
    """
    tokenizer = self.settings.tokenizer
    ids = self.settings.template.encode_responses(tokenizer, answers, self.response_length).ids
    # The last token is the end.
    choices = [padding.pad_responses([row[:-1]], len(row) - 1, tokenizer.pad_id) for row in ids]
    program = programs.choosing(self.language, self.mesh)
    policy = layout.to_devices(policy)

    def ask(batch, _):
      return program(policy, batch, choices)

    return self.over_rows("reading", ask, self.shown("policy", questions))

  def revision_likelihoods(
    self,
    improver: Params,
    questions: Sequence[conversations.Prompt],
    drafts: Sequence[str],
    answers: Sequence[str],
    temperature: float,
  ) -> np.ndarray:
    """Returns log p(y | x, draft) of answers in words, with their end, in nats, Float[N].

    An answer that fills the whole length has no end: sampling stopped there.
    """
    prompts = self.shown("improver", questions, drafts)
    return self.logprobs(improver, prompts, self.responses(answers), temperature).sum(axis=1)

  def words(self, responses: Responses) -> list[str]:
    """Returns the text of responses."""
    return encode.decode_responses(self.settings.tokenizer, responses)

  def responses(self, answers: Sequence[str]) -> Responses:
    """Returns the ids of answers in words, padded to the length of sampled ones."""
    tokenizer = self.settings.tokenizer
    limit = self.response_length
    ids = self.settings.template.encode_responses(tokenizer, answers, limit).ids
    return padding.pad_responses(ids, limit, tokenizer.pad_id)

  def shown(self, name: str, *columns: Sequence) -> Prompts:
    """Returns the prompts made of questions and texts, in the format of a name."""
    return encode.prompts(self.settings.formats[name].conversations(*columns), self._cutting)[:]

  @property
  def _cutting(self) -> encode.Settings:
    """Every question gets an answer: what is over-long is cut, never dropped."""
    return dataclasses.replace(self.settings, over_long="cut")

  def over_rows(self, name: str, ask: Callable, record: Any, each: int = 1) -> Any:
    """Returns ask(batch, rows) for every batch of a record, joined on the host.

    Rows are the numbers of the batch's rows, the last one again where it is filled up. Of every row
    there are `each` results, which follow one another.
    """
    every = batches.count_rows(record)
    count = progress.Count(name, every, "rows")
    parts = []
    places = []
    devices = parallel.parts(self.mesh)
    # As many rows at work as without samples; a batch divides over the devices.
    size = max(self.batch_size // each // devices, 1) * devices
    if self.by_length:
      # The last of several batches is a whole one, whose program is compiled already.
      size = padding.rows_of_batch(every, size, devices)
    ordered = batches.in_order(record, size, self.by_length)

    for batch, rows in ordered:
      numbers = np.pad(rows, (0, size - len(rows)), mode="edge")
      result = ask(parallel.put_batch(batch, self.mesh), numbers)
      parts.append(batches.take(hosts.fetch(result), slice(0, len(rows) * each)))
      places.append((rows[:, None] * each + np.arange(each)).ravel())
      count.add(len(rows))

    # The inverse permutation: batches were made by length, and results keep the order of rows.
    back = np.argsort(np.concatenate(places))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[back], *parts)
