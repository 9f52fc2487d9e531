"""Preference optimisation against TRL's DPOTrainer: its loss of the same pairs and weights."""

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


@pytest.fixture(scope="module")
def models():
  """Returns transformers' policy and reference, our network, and the parameters of both."""
  policy, model, params = test_losses_torch.read(0)
  reference, _, reference_params = test_losses_torch.read(1)
  return policy, reference, model, params, reference_params


def trainer_loss(models, folder, prompts, chosen, rejected, losses, weights):
  """Returns TRL's loss of pairs of token ids, which it shuffles and cuts in no way."""
  import datasets
  import tokenizers
  import transformers

  policy, reference, *_ = models
  vocabulary = {f"w{index}": index for index in range(31)}
  words = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="w1"))
  words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  fast = transformers.PreTrainedTokenizerFast(
    tokenizer_object=words, pad_token="w0", eos_token="w2"
  )
  settings = trl.DPOConfig(
    output_dir=str(folder),
    beta=BETA,
    loss_type=list(losses),
    loss_weights=list(weights),
    use_cpu=True,
    bf16=False,
    gradient_checkpointing=False,
    report_to="none",
  )
  trainer = trl.DPOTrainer(
    model=policy,
    ref_model=reference,
    args=settings,
    train_dataset=datasets.Dataset.from_list([{"prompt": "w3", "chosen": "w4", "rejected": "w5"}]),
    processing_class=fast,
  )
  columns = zip(prompts, chosen, rejected, strict=True)
  names = ("prompt_ids", "chosen_ids", "rejected_ids")
  batch = trainer.data_collator([dict(zip(names, row, strict=True)) for row in columns])
  with torch.no_grad():
    return float(trainer.compute_loss(policy, batch))


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


def our_loss(models, batch, pair_loss, beta=BETA, sft_coefficient=0.0):
  _, _, model, params, _ = models
  loss_fn = objectives.policy_pairs(pair_loss, beta, 0.0, sft_coefficient)(model)
  return loss_fn(params, {}, batch, jax.random.key(0))[0]


def test_the_dpo_loss_is_trls(models, tmp_path):
  wanted = trainer_loss(models, tmp_path, PROMPTS, CHOSEN, REJECTED, ["sigmoid"], [1.0])
  batch = our_batch(models, PROMPTS, CHOSEN, REJECTED)
  np.testing.assert_allclose(our_loss(models, batch, preference.sigmoid), wanted, rtol=1e-4)


def test_the_ipo_loss_is_trls_for_responses_of_one_length(models, tmp_path):
  """TRL divides each log-ratio by its tokens: (h/L − 1/2β)² = (h − L/2β)² / L²."""
  length = 3
  chosen, rejected = (
    [[a, a + 1, 2] for a in starts] for starts in ((6, 9, 12, 15), (16, 7, 20, 4))
  )
  wanted = trainer_loss(models, tmp_path, PROMPTS, chosen, rejected, ["ipo"], [1.0])
  batch = our_batch(models, PROMPTS, chosen, rejected)
  found = our_loss(models, batch, preference.ipo, beta=BETA / length) / length**2
  np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_the_sft_term_is_trls_for_responses_of_one_length(models, tmp_path):
  """TRL averages over all chosen tokens, ours over pairs of averages: equal at equal lengths."""
  chosen = [[a, a + 1, 2] for a in (6, 9, 12, 15)]
  wanted = trainer_loss(models, tmp_path, PROMPTS, chosen, REJECTED, ["sigmoid", "sft"], [1.0, 0.2])
  batch = our_batch(models, PROMPTS, chosen, REJECTED)
  found = our_loss(models, batch, preference.sigmoid, sft_coefficient=0.2)
  np.testing.assert_allclose(found, wanted, rtol=1e-4)
