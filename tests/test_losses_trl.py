"""Preference optimisation against TRL's trainers: their losses of the same pairs and weights.

DPO, IPO and the SFT term are those of its DPOTrainer, KTO of its KTOTrainer, SimPO of its
CPOTrainer and ORPO of its ORPOTrainer; of each the gradient too.
"""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_losses_torch
import tiny

from pit_jax.losses import preference
from pit_jax.stages import objectives
from pit_jax.types import Preferences, Prompts, Responses

torch = pytest.importorskip("torch", reason="torch is absent; install the extra `parity`")
trl = pytest.importorskip("trl", reason="trl is absent; install the extra `parity`")
pytestmark = pytest.mark.parity

BETA = 0.3
PROMPTS = [[3, 4, 5], [9], [7, 7, 3, 10, 4], [5, 6]]
CHOSEN = [[6, 7, 2], [6, 2], [12, 13, 14, 15, 2], [2]]
REJECTED = [[8, 2], [8, 11, 12, 2], [16, 2], [17, 18, 19, 2]]
OF_THREE = [[a, a + 1, 2] for a in (6, 9, 12, 15)]  # responses of one length
PAIR = {"prompt": "w3", "chosen": "w4", "rejected": "w5"}  # what a trainer is made with
SAID = [{"prompt": "w3", "completion": "w4", "label": label} for label in (True, False)]


@pytest.fixture(scope="module")
def models():
  """Returns transformers' policy and reference, our network, and the parameters of both."""
  policy, model, params = test_losses_torch.read(0)
  reference, _, reference_params = test_losses_torch.read(1)
  return policy, reference, model, params, reference_params


def trainer(kind, settings, policy, rows, folder, **options):
  """Returns a trainer of TRL for a policy; what it is made with is never trained on."""
  import datasets
  import tokenizers
  import transformers

  vocabulary = {f"w{index}": index for index in range(31)}
  words = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="w1"))
  words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  fast = transformers.PreTrainedTokenizerFast(
    tokenizer_object=words, bos_token="w1", pad_token="w0", eos_token="w2"
  )
  plain = {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "report_to": "none"}
  beta = options.pop("beta", BETA)
  reference = {"ref_model": options.pop("reference")} if "reference" in options else {}
  return kind(
    model=policy,
    args=settings(output_dir=str(folder), beta=beta, **plain, **options),
    train_dataset=datasets.Dataset.from_list(rows),
    processing_class=fast,
    **reference,
  )


def learnt(loss, policy):
  """Returns TRL's loss, and leaves its gradient in the policy."""
  policy.zero_grad()
  loss.backward()
  return float(loss.detach())


def dpo_trainers(models, folder, prompts, chosen, rejected, losses, weights=(1.0,), **options):
  """Returns what DPOTrainer says of pairs of token ids, and the policy with its gradient."""
  policy = copy.deepcopy(models[0])
  options |= {"loss_type": list(losses), "loss_weights": list(weights), "reference": models[1]}
  made = trainer(trl.DPOTrainer, trl.DPOConfig, policy, [PAIR], folder, **options)
  columns = zip(prompts, chosen, rejected, strict=True)
  names = ("prompt_ids", "chosen_ids", "rejected_ids")
  batch = made.data_collator([dict(zip(names, row, strict=True)) for row in columns])
  return learnt(made.compute_loss(policy, batch), policy), policy


def kto_trainers(models, folder, **options):
  """Returns the same of KTOTrainer: the chosen ones are desirable, and then come the others."""
  policy = copy.deepcopy(models[0])
  options |= {"reference": models[1], "per_device_train_batch_size": 2}
  made = trainer(trl.KTOTrainer, trl.KTOConfig, policy, SAID, folder, **options)
  responses = CHOSEN + REJECTED
  others = responses[-1:] + responses[:-1]  # as it makes them of a batch
  columns = zip(2 * PROMPTS, responses, others, 4 * [True] + 4 * [False], strict=True)
  names = ("prompt_ids", "completion_ids", "KL_completion_ids", "label")
  batch = made.data_collator([dict(zip(names, row, strict=True)) for row in columns])
  return learnt(made.compute_loss(policy, batch), policy), policy


def unreferenced_trainers(models, folder, kind, settings, prompts, chosen, rejected, **options):
  """Returns the same of CPOTrainer and ORPOTrainer, which have no reference."""
  policy = copy.deepcopy(models[0])
  options |= {"max_length": 16, "remove_unused_columns": False}
  made = trainer(kind, settings, policy, [PAIR], folder, **options)

  def rows(side, responses):
    whole = [prompt + said for prompt, said in zip(prompts, responses, strict=True)]
    unread = [[-100] * len(prompt) + said for prompt, said in zip(prompts, responses, strict=True)]
    pads = {"input_ids": (whole, 0), "labels": (unread, -100)}
    pads["attention_mask"] = ([[1] * len(row) for row in whole], 0)
    width = max(map(len, whole))
    return {
      f"{side}_{name}": torch.tensor([row + [pad] * (width - len(row)) for row in values])
      for name, (values, pad) in pads.items()
    }

  batch = rows("chosen", chosen) | rows("rejected", rejected)
  loss, _ = made.get_batch_loss_metrics(policy, batch)
  return learnt(loss, policy), policy


def our_batch(models, prompts, chosen, rejected):
  """Returns the same pairs as our record, with the reference's log-probabilities as columns."""

  def padded(record, rows, is_left, width):
    lengths = [len(row) for row in rows]
    mask = np.asarray(tiny.left(lengths, width) if is_left else tiny.right(lengths, width))
    tokens = np.zeros(mask.shape, np.int32)
    tokens[mask] = np.concatenate(rows).astype(np.int32)
    return record(tokens=jnp.array(tokens), mask=jnp.array(mask))

  *_, model, _, reference = models
  batch = Preferences(
    padded(Prompts, prompts, True, max(map(len, prompts))),
    *(
      padded(Responses, rows, False, 8) for rows in (chosen, rejected)
    ),  # of one width, as tables do
  )
  logprobs = objectives.pair_logprobs(model, reference, batch)
  names = ("reference_chosen", "reference_rejected")
  return batch.replace(columns=dict(zip(names, logprobs, strict=True)))


def assert_same(models, batch, theirs, name, beta=BETA, scale=1.0, **options):
  """Compares our loss and gradient, times a scale, with those of a trainer."""
  wanted, policy = theirs
  *_, model, params, reference = models
  options = preference.Options(beta, **options)
  loss_fn = objectives.policy_pairs(preference.PAIR_LOSSES[name], options)(model)

  def ours(params):
    return scale * loss_fn(params, {"reference": reference}, batch, jax.random.key(0))[0]

  loss, gradient = jax.jit(jax.value_and_grad(ours))(params)
  if not preference.PAIR_LOSSES[name].is_paired:  # else nothing was shown of it
    assert objectives.mismatched_kl(model, params, reference, batch) > 0
  np.testing.assert_allclose(loss, wanted, rtol=1e-4)
  test_losses_torch.assert_same_gradient(gradient, policy)


@pytest.mark.parametrize("name", ["sigmoid", "hinge"])
def test_dpo_is_trls(models, tmp_path, name):
  theirs = dpo_trainers(models, tmp_path, PROMPTS, CHOSEN, REJECTED, [name])
  assert_same(models, our_batch(models, PROMPTS, CHOSEN, REJECTED), theirs, name)


def test_ipo_is_trls_for_responses_of_one_length(models, tmp_path):
  """TRL divides each log-ratio by its tokens: (h/L − 1/2β)² = (h − L/2β)² / L²."""
  length = 3
  rejected = [[a, a + 1, 2] for a in (16, 7, 20, 4)]
  theirs = dpo_trainers(models, tmp_path, PROMPTS, OF_THREE, rejected, ["ipo"])
  batch = our_batch(models, PROMPTS, OF_THREE, rejected)
  assert_same(models, batch, theirs, "ipo", beta=BETA / length, scale=1 / length**2)


def test_the_sft_term_is_trls_for_responses_of_one_length(models, tmp_path):
  """TRL averages over all chosen tokens, ours over pairs of averages: equal at equal lengths."""
  both = (["sigmoid", "sft"], [1.0, 0.2])
  theirs = dpo_trainers(models, tmp_path, PROMPTS, OF_THREE, REJECTED, *both)
  batch = our_batch(models, PROMPTS, OF_THREE, REJECTED)
  assert_same(models, batch, theirs, "sigmoid", sft_coefficient=0.2)


def test_kto_is_trls(models, tmp_path):
  weights = {"desirable_weight": 1.5, "undesirable_weight": 0.75}
  theirs = kto_trainers(models, tmp_path, **weights)
  assert_same(models, our_batch(models, PROMPTS, CHOSEN, REJECTED), theirs, "kto", **weights)


def test_simpo_is_trls(models, tmp_path):
  cpo = pytest.importorskip("trl.experimental.cpo")
  options = {"loss_type": "simpo", "simpo_gamma": 0.6, "cpo_alpha": 0.0, "beta": 2.0}
  kinds = (cpo.CPOTrainer, cpo.CPOConfig)
  theirs = unreferenced_trainers(models, tmp_path, *kinds, PROMPTS, CHOSEN, REJECTED, **options)
  batch = our_batch(models, PROMPTS, CHOSEN, REJECTED)
  assert_same(models, batch, theirs, "simpo", beta=2.0, gamma=0.6)


def test_orpo_is_trls(models, tmp_path):
  """TRL imitates the prompt too: one of a single token, which nothing precedes, is not counted."""
  orpo = pytest.importorskip("trl.experimental.orpo")
  prompts = [[3], [9], [7], [5]]
  kinds = (orpo.ORPOTrainer, orpo.ORPOConfig)
  theirs = unreferenced_trainers(models, tmp_path, *kinds, prompts, OF_THREE, REJECTED)
  batch = our_batch(models, prompts, OF_THREE, REJECTED)
  assert_same(models, batch, theirs, "orpo", sft_coefficient=1.0)
