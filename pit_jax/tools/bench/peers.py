"""The same work through transformers and a plain torch loop, which the extra `parity` brings."""

import functools
from collections.abc import Sequence

import numpy as np

from pit_jax.tools.bench import cases, timing


def peers(directory: str, sizes: cases.Sizes) -> dict[str, timing.Case]:
  """Returns the peer's cases, by the name of ours, in float32 with a model's directory."""
  import torch
  import transformers

  model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
  model.generation_config.eos_token_id = None  # a row ends at its given length
  measured = [_generation(model, *one) for one in sizes.generations()]
  return {case.name: case for case in (*measured, _imitation(model, sizes))}


def _generation(model, name: str, lengths: Sequence[int], limits: Sequence[int]) -> timing.Case:
  """Generates greedily from left-padded prompts; every row stops at its own number of tokens."""
  import torch

  prompts = cases.left_padded(model.config.vocab_size, lengths)
  ids = torch.tensor(prompts.tokens, dtype=torch.long)
  mask = torch.tensor(prompts.mask).long()
  ends = torch.tensor(limits) + ids.shape[1]

  def is_done(ids, scores, **_):
    return ids.shape[1] >= ends

  form = {"attention_mask": mask, "do_sample": False, "max_new_tokens": max(limits)}

  def run():
    with torch.no_grad():
      return model.eval().generate(ids, stopping_criteria=[is_done], **form)

  return timing.Case(name, sum(limits), lambda: run)


def _imitation(model, sizes: cases.Sizes) -> timing.Case:
  """Takes steps of AdamW on the negative log-likelihood of responses."""
  import torch

  length = sizes.prompt + sizes.response
  draw = np.random.default_rng(0)
  ids = torch.tensor(draw.integers(0, model.config.vocab_size, (sizes.rows, length)))

  # The loss of transformers leaves out what is labelled −100.
  labels = torch.where(torch.arange(length) < sizes.prompt, -100, ids)

  def train(optimizer):
    optimizer.zero_grad()
    model.train()(input_ids=ids, labels=labels).loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), cases.ADAM["clip_norm"])
    optimizer.step()

  def start():
    return functools.partial(train, torch.optim.AdamW(model.parameters(), lr=1e-6))

  return timing.Case("sft", sizes.rows * length, start)
