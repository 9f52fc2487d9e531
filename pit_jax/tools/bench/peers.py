"""The same work through transformers, TRL and a plain torch loop: the extra `parity` has them."""

import functools
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from pit_jax.tools.bench import cases, generation, texts, timing
from pit_jax.types import Preferences, Prompts, Responses

LOOKUP = 16  # tokens that prompt lookup proposes: of 10 and 16 the faster


def peers(
  directory: str,
  sizes: generation.Sizes,
  rank: int = 0,
  is_remat: bool = False,
  rewrites: Sequence[texts.Rewrites] = (),
  pairs: Preferences | None = None,
) -> dict[str, timing.Case]:
  """Returns the peer's cases, by the name of ours, in float32 with a model's directory.

  TRL trains adapters of a rank above 0, and computes activations again where `is_remat`. A single
  draft is rewritten with prompt lookup, which transformers has for a batch of one alone.
  """
  import torch
  import transformers

  model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
  model.generation_config.eos_token_id = None  # a row ends at its given length
  measured = [
    _generation(model, name, generation.left_padded(model.config.vocab_size, lengths), limits)
    for name, lengths, limits in sizes.generations()
  ]
  measured += [_rewriting(model, one) for one in rewrites]
  if pairs is not None:
    measured.append(_scoring(directory, pairs))
  measured.append(_imitation(model, sizes))
  # Last: what makes the trainer changes the model, and no other case is asked for it afterwards.
  measured.append(_preferring(model, directory, sizes, rank, is_remat))
  return {case.name: case for case in measured}


def _generation(
  model, name: str, prompts: Prompts, limits: Sequence[int], **how: Any
) -> timing.Case:
  """Generates greedily from left-padded prompts; every row stops at its own number of tokens."""
  import torch

  ids = torch.tensor(prompts.tokens, dtype=torch.long)
  mask = torch.tensor(prompts.mask).long()
  ends = torch.tensor(limits) + ids.shape[1]

  def is_done(ids, scores, **_):
    return ids.shape[1] >= ends

  form = {"attention_mask": mask, "do_sample": False, "max_new_tokens": max(limits), **how}

  def run():
    with torch.no_grad():
      return model.eval().generate(ids, stopping_criteria=[is_done], **form)

  return timing.Case(name, sum(limits), lambda: run)


def _rewriting(model, rewrites: texts.Rewrites) -> timing.Case:
  """Rewrites drafts greedily, as many tokens of each as it has, a batch after the other."""
  parts = []
  for prompts, drafts in rewrites.batches:
    lengths = drafts.mask.sum(axis=1).tolist()
    lookup = {"prompt_lookup_num_tokens": LOOKUP} if len(lengths) == 1 else {}
    parts.append(_generation(model, rewrites.name, prompts, lengths, **lookup))

  runs = [part.start() for part in parts]
  amount = sum(part.amount for part in parts)
  return timing.Case(rewrites.name, amount, lambda: lambda: [run() for run in runs])


def _scoring(directory: str, pairs: Preferences) -> timing.Case:
  """Scores both texts of each pair by the classifier of the same trunk, in padded batches."""
  import torch
  import transformers

  classifier = transformers.AutoModelForSequenceClassification.from_pretrained(
    directory, num_labels=1, dtype=torch.float32
  ).eval()
  classifier.config.pad_token_id = 0  # found by its mask; a batch wants some id
  rows = [
    prompt + response
    for parts in zip(*map(_ids, (pairs.prompts, pairs.chosen, pairs.rejected)), strict=True)
    for prompt in parts[:1]
    for response in parts[1:]
  ]

  def run():
    scores = []
    for start in range(0, len(rows), texts.SCORED_AT_ONCE):
      batch = rows[start : start + texts.SCORED_AT_ONCE]
      width = max(map(len, batch))
      ids = torch.tensor([row + [0] * (width - len(row)) for row in batch])
      mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in batch])
      with torch.no_grad():
        scores.append(classifier(input_ids=ids, attention_mask=mask).logits)
    return torch.cat(scores)

  return timing.Case(texts.SCORED, len(pairs.chosen.mask), lambda: run, unit="pairs")


def _ids(part: Prompts | Responses) -> list[list[int]]:
  return [tokens[mask].tolist() for tokens, mask in zip(part.tokens, part.mask, strict=True)]


def _imitation(model, sizes: generation.Sizes) -> timing.Case:
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


def _preferring(
  model, directory: str, sizes: generation.Sizes, rank: int, is_remat: bool
) -> timing.Case:
  """Takes steps of TRL's DPOTrainer on pairs whose reference was asked before."""

  def start():
    trainer = _dpo_trainer(model, directory, sizes, rank, is_remat)
    optimizer = trainer.create_optimizer()
    trained = [leaf for leaf in trainer.model.parameters() if leaf.requires_grad]
    (batch,) = trainer.get_train_dataloader()

    def run():
      import torch

      # What `Trainer.train` does of a batch, which would do it for all in one call.
      trainer.training_step(trainer.model, dict(batch))
      torch.nn.utils.clip_grad_norm_(trained, cases.ADAM["clip_norm"])
      optimizer.step()
      optimizer.zero_grad()

    return run

  tokens = sizes.rows * (sizes.prompt + 2 * sizes.response)
  return timing.Case("dpo", tokens, start)


def _dpo_trainer(model, directory: str, sizes: generation.Sizes, rank: int, is_remat: bool) -> Any:
  """Returns TRL's trainer on one batch of random ids, with the reference's log-probabilities."""
  import datasets
  import peft
  import transformers
  import trl

  class Trainer(trl.DPOTrainer):
    """DPO on ids: there are no texts to be tokenised."""

    def _prepare_dataset(self, dataset, *_):
      return dataset

  draw = np.random.default_rng(0)
  lengths = {"prompt": sizes.prompt, "chosen": sizes.response, "rejected": sizes.response}
  ids = {
    f"{name}_ids": draw.integers(0, model.config.vocab_size, (sizes.rows, length)).tolist()
    for name, length in lengths.items()
  }

  options = trl.DPOConfig(
    output_dir=tempfile.mkdtemp(),
    per_device_train_batch_size=sizes.rows,
    precompute_ref_log_probs=True,
    beta=cases.DPO[1].beta,
    learning_rate=1e-6,
    max_length=None,
    gradient_checkpointing=is_remat,
    bf16=False,
    use_cpu=True,
    report_to="none",
    disable_tqdm=True,
  )
  adapters = peft.LoraConfig(r=rank, lora_alpha=16, target_modules="all-linear") if rank else None
  trainer = Trainer(
    model=model,
    args=options,
    train_dataset=datasets.Dataset.from_dict(ids),
    processing_class=transformers.AutoTokenizer.from_pretrained(directory),
    peft_config=adapters,
  )

  # Both are what `Trainer.train` sets before its first batch.
  trainer.current_gradient_accumulation_steps = 1
  if is_remat:
    trainer.model.gradient_checkpointing_enable()
  return trainer
