"""The language model that a configuration names as a judge: behind an endpoint, or sampled here."""

import collections
import dataclasses
import functools
import hashlib
import json
import pathlib
import urllib.parse
from collections.abc import Sequence

import jax
import ml_collections
import numpy as np

from pit_jax import hosts
from pit_jax.feedback import endpoint, estimates, judges, language_judge, transcripts
from pit_jax.rollout import inference
from pit_jax.run import context as contexts
from pit_jax.run import origin
from pit_jax.storage import places
from pit_jax.types import Params


def local(
  asking: inference.Inference,
  params: Params,
  *,
  verdict: str,
  temperature: float | int,
  max_tokens: int,
) -> transcripts.Ask:
  """Returns the ask function of a language model that is sampled here.

  The noise of a batch follows from what it asks, so that no two batches share theirs, and what an
  interruption left is answered as it would have been.

  Args:
    asking: how it is asked; prompts over its limit fail, they are not cut.
    params: of the model.
    verdict: "json" lets it write; of "logprob" the probabilities of the letters are computed.
    temperature: divides the logits; 0 takes the most likely tokens.
    max_tokens: the most tokens of a reply.
  """
  asking = dataclasses.replace(asking, response_length=max_tokens, by_length=True)
  settings = asking.settings

  def written(key, prompts):
    texts = asking.answer(params, prompts, key, float(temperature))
    return [transcripts.Reply(text=text) for text in texts]

  def weighed(_, prompts):
    letters = language_judge.LETTERS
    rows = asking.choice_likelihoods(params, prompts, letters).tolist()
    return [transcripts.Reply(logprobs=dict(zip(letters, row, strict=True))) for row in rows]

  reply = written if verdict == "json" else weighed

  def ask(prompts, _, keep):
    limit = settings.max_prompt_length
    chats = settings.formats["policy"].conversations(prompts)
    encoded = settings.template.encode(settings.tokenizer, chats, limit)
    detail = f"the prompt is longer than max_prompt_tokens, {limit}"
    for i in np.flatnonzero(encoded.is_cut).tolist():
      keep(i, transcripts.Reply(failure=language_judge.TOO_LONG, detail=detail))
    places = np.flatnonzero(~encoded.is_cut).tolist()
    repeats: collections.Counter[tuple[str, ...]] = collections.Counter()

    # Batch by batch, so that what was answered is kept when the rest is interrupted.
    for start in range(0, len(places), asking.batch_size):
      some = places[start : start + asking.batch_size]
      batch = tuple(prompts[i] for i in some)
      for i, one in zip(some, reply(_noise(batch, repeats[batch]), batch), strict=True):
        keep(i, one)
      repeats[batch] += 1

  return ask


def _noise(prompts: Sequence[str], repeat: int) -> jax.Array:
  """Returns the key of the samples that answer a batch, asked so often before by one call."""
  digest = hashlib.sha256(json.dumps(prompts).encode()).digest()
  # fold_in takes 32 bits.
  key = jax.random.fold_in(jax.random.key(0), np.uint32(int.from_bytes(digest[:4])))
  return jax.random.fold_in(key, repeat)


def check(c: ml_collections.ConfigDict, key: str = endpoint.SECTION) -> None:
  """Raises a ValueError for a section, named by its key, whose model cannot be asked.

  Values out of their range are refused before, see `allowed.LANGUAGE_MODEL`.
  """
  if c.model and c.base_url != origin.LOCAL:
    _check_address(c.base_url, key)
    endpoint.check(c.base_url, key)


def build(context: contexts.Context) -> judges.Judge | None:
  """Returns the language model that a run's configuration names as a judge, or None."""
  c = context.config.evaluation.language_judge
  if not c.model:
    return None
  models = context.models
  return rater(language_judge.NAME, c, models.inference, models.language_judge, context.workdir)


def rater(
  name: str,
  c: ml_collections.ConfigDict,
  like: inference.Inference,
  published: origin.Published | None,
  workdir: pathlib.Path,
  principle: str = "",
  key: str = "",
) -> judges.Judge:
  """Returns the language model of a section such as `evaluation.language_judge` as a rater.

  It is asked with batch size and mesh `like` the run's models where it is `published` in a
  directory, and by the endpoint where that is None. Transcripts lie in the workdir where the
  section names no file. A principle is what alone it compares by; see `language_judge.write`. Of
  the section's key see `estimates.Account`.
  """
  path = transcripts_of(c, workdir)
  account = estimates.Account(name, key, tokens(like))
  asked = _here(c, like, published) if published else _there(c, path, account)
  ask, settings, spent, *announce = asked

  def facts():
    return {"model": c.model, "verdict": c.verdict, "prompt": _hash(), **settings, **spent()}

  ask = transcripts.remembering(ask, path, settings, *announce)
  how = {"verdict": c.verdict, "tie": c.tie, "prompts": c.prompts, "principle": principle}
  return language_judge.judge(ask, name=name, facts=facts, **how)


def transcripts_of(c: ml_collections.ConfigDict, workdir: pathlib.Path) -> pathlib.Path:
  """Returns the file of transcripts of a section."""
  return places.local(
    f"{endpoint.SECTION}.cache", c.cache or workdir / "judge" / "transcripts.sqlite"
  )


def endpoint_settings(c: ml_collections.ConfigDict, *, is_weighed: bool) -> endpoint.Settings:
  """Returns the endpoint settings of a section."""
  names = {field.name for field in dataclasses.fields(endpoint.Settings)} & {*c}
  return endpoint.Settings(is_weighed=is_weighed, **{name: c[name] for name in names})


def tokens(like: inference.Inference) -> estimates.Count:
  """Returns how tokens are estimated in a run, as its models count them."""
  return estimates.by(like.settings.tokenizer)


def _there(c: ml_collections.ConfigDict, path: pathlib.Path, account: estimates.Account) -> tuple:
  """Returns the ask function of a model behind an endpoint, its settings, its cost, and how that
  is told before.
  """
  is_weighed = c.verdict == "logprob"
  failure = functools.partial(language_judge.failure, verdict=c.verdict)
  remote = endpoint.Endpoint(endpoint_settings(c, is_weighed=is_weighed), path, failure, account)

  def spent():
    requests, tokens = remote.spent()
    changes = hosts.agree("; ".join(remote.changes))
    return {"requests": requests, "tokens": tokens} | ({"changes": changes} if changes else {})

  settings = {"model": c.model, "endpoint": remote.address, "logprobs": is_weighed}
  settings |= {"temperature": c.temperature, "max_tokens": c.max_tokens}
  return remote.ask, settings, spent, remote.announce


def _here(
  c: ml_collections.ConfigDict, like: inference.Inference, published: origin.Published
) -> tuple:
  """Returns the ask function of a model in a directory, its settings, and its cost: none."""
  limits = {"temperature": c.temperature, "max_tokens": c.max_tokens}
  ask = local(*published.load(like), verdict=c.verdict, **limits)
  settings = {"weights": published.metadata["model"], "template": published.settings.template.hash}
  return ask, settings | limits | {"logprobs": c.verdict == "logprob"}, dict


def _check_address(base_url: str, key: str) -> None:
  if not base_url:
    return
  parts = urllib.parse.urlsplit(base_url)

  if parts.scheme not in ("http", "https") or not parts.hostname:
    address = (
      f"an address such as http://localhost:8000/v1, {origin.LOCAL!r} for a model's directory"
    )
    raise ValueError(f"{key}.base_url is {base_url!r}; use {address}, or nothing for OpenAI's")

  if parts.username or parts.password or parts.query:
    problem = "holds a name, a password or a query, and configurations are written down"
    todo = f"give the bare address, and the key as {endpoint.KEY} in the environment"
    raise ValueError(f"{key}.base_url {problem}; {todo}")


def _hash() -> str:
  """Returns a sha256 (16 hex digits) of the prompts' form."""
  criteria = [language_judge.CRITERION, language_judge.PRINCIPLE]
  content = json.dumps([language_judge.PROMPT, *criteria, language_judge.ENDINGS])
  return hashlib.sha256(content.encode()).hexdigest()[:16]
