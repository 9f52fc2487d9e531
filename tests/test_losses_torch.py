"""Losses against torch and transformers: the same batch, the same weights, in float32 on CPU.

transformers builds the model and reads the text; what comes after its logits is written here in
torch, row by row, without padding.
"""

import copy
import functools
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import smollm2
import tiny

from pit_jax.exchange import families, hf
from pit_jax.models import pure
from pit_jax.rollout import scoring
from pit_jax.stages import objectives
from pit_jax.types import Demonstrations, Preferences, Prompts, Responses

torch = pytest.importorskip("torch", reason="torch is absent; install the extra `parity`")
pytestmark = pytest.mark.parity

P, R = 7, 9
PROMPT_LENGTHS, CHOSEN, REJECTED = [7, 1, 4, 5], [9, 3, 1, 6], [2, 8, 9, 5]
TOLERANCE = 1e-4


@functools.cache
def read(seed, kind="LlamaForCausalLM"):
  """Returns (transformers' random Llama, ours, our parameters)."""
  import transformers

  sizes = {"vocab_size": 31, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
  heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4}
  config = transformers.LlamaConfig(**sizes, **heads, num_labels=1, pad_token_id=0)
  torch.manual_seed(seed)
  theirs = getattr(transformers, kind)(config).eval()
  with torch.no_grad():
    for name, weight in theirs.named_parameters():
      weight.copy_(("norm" in name) + 0.3 * torch.randn(weight.shape))
  with tempfile.TemporaryDirectory() as directory:
    theirs.save_pretrained(directory)
    config = families.read(directory)
    model = (pure.language_model if "Causal" in kind else pure.scalar_model)(config)
    return theirs, model, hf.load(directory, model)


def batch(vocabulary):
  """Returns prompts with two responses each, of several lengths, and padding of both kinds."""

  def fill(record, seed, mask):
    tokens = np.random.default_rng(seed).integers(1, vocabulary, mask.shape)
    return record(tokens=jnp.array(tokens, jnp.int32), mask=jnp.array(mask))

  prompts = fill(Prompts, 0, tiny.left(PROMPT_LENGTHS, P))
  return Preferences(
    prompts=prompts,
    chosen=fill(Responses, 1, tiny.right(CHOSEN, R)),
    rejected=fill(Responses, 2, tiny.right(REJECTED, R)),
  )


def texts(prompts, responses):
  """Yields each row's real tokens, Int[1 T] in torch, and how many of them are the prompt's."""
  for asked, is_asked, said, is_said in zip(
    *map(np.asarray, (prompts.tokens, prompts.mask, responses.tokens, responses.mask))
  ):
    ids = np.concatenate([asked[is_asked], said[is_said]])
    yield torch.tensor(ids[None], dtype=torch.long), int(is_asked.sum())


def response_logprobs(theirs, prompts, responses):
  """Returns the log-probabilities of each row's response tokens, a torch vector per row."""
  rows = []
  for ids, start in texts(prompts, responses):
    laws = torch.log_softmax(theirs(input_ids=ids).logits[0, :-1], dim=-1)
    rows.append(laws.gather(1, ids[0, 1:, None])[start - 1 :, 0])
  return rows


def assert_close(actual, expected):
  expected = expected.detach().numpy()
  assert np.abs(np.asarray(actual) - expected).max() <= TOLERANCE * np.abs(expected).max()


def check_imitation(theirs, model, params):
  """Compares the loss, and its gradient wherever the two models' parameters have one name."""
  given = batch(model.config.vocabulary)
  shown = Demonstrations(prompts=given.prompts, responses=given.chosen)
  loss_fn = jax.jit(jax.value_and_grad(objectives.imitation(model), has_aux=True))
  (loss, _), gradient = loss_fn(params, {}, shown, jax.random.key(0))
  expected = -torch.cat(response_logprobs(theirs, shown.prompts, shown.responses)).mean()
  assert_close(loss, expected)
  theirs.zero_grad()
  expected.backward()
  assert_same_gradient(gradient, theirs)


def assert_same_gradient(gradient, theirs):
  """Compares gradients wherever the two models' parameters have one name."""
  blocks, block = gradient["trunk"]["blocks"], theirs.model.layers[1]
  width = theirs.config.hidden_size
  assert_close(gradient["trunk"]["embedding"], theirs.model.embed_tokens.weight.grad)
  assert_close(gradient["trunk"]["norm"]["scale"], theirs.model.norm.weight.grad)
  assert_close(blocks["gate"][1].T, block.mlp.gate_proj.weight.grad)
  assert_close(blocks["value"][1].reshape(width, -1).T, block.self_attn.v_proj.weight.grad)
  assert_close(blocks["output"][1].reshape(-1, width).T, block.self_attn.o_proj.weight.grad)


def check_ratios(theirs, model, params, their_reference, reference):
  """Compares Σ_t log π(y_t) − log π_ref(y_t), what DPO is made of, of every response."""
  given = batch(model.config.vocabulary)

  ask = functools.partial(scoring.response_logprobs, model)
  for responses in (given.chosen, given.rejected):
    asked = (given.prompts, responses)
    ours = np.asarray(ask(params, *asked)[0] - ask(reference, *asked)[0]).sum(axis=1)
    with torch.no_grad():
      both = zip(response_logprobs(theirs, *asked), response_logprobs(their_reference, *asked))
      expected = torch.stack([(a - b).sum() for a, b in both])
    assert_close(ours, expected)
    assert np.abs(ours).min() > 1e-3  # or the two models say the same


def test_the_imitation_loss_and_its_gradient():
  check_imitation(*read(0))


def test_sums_of_log_ratios():
  theirs, model, params = read(0)
  their_reference, _, reference = read(1)
  check_ratios(theirs, model, params, their_reference, reference)


def test_the_bradley_terry_loss_and_its_gradient():
  theirs, model, params = read(2, "LlamaForSequenceClassification")
  given = batch(model.config.vocabulary)
  loss_fn = jax.jit(jax.value_and_grad(objectives.preference_pairs()(model), has_aux=True))
  (loss, _), gradient = loss_fn(params, {}, given, jax.random.key(0))

  def scores(responses):
    return torch.cat(
      [theirs(input_ids=ids).logits[0] for ids, _ in texts(given.prompts, responses)]
    )

  margin = scores(given.chosen) - scores(given.rejected)
  expected = -torch.nn.functional.logsigmoid(margin).mean()
  assert_close(loss, expected)
  expected.backward()
  assert_close(gradient["head"], theirs.score.weight.grad[0])
  assert_close(
    gradient["trunk"]["blocks"]["up"][0].T, theirs.model.layers[0].mlp.up_proj.weight.grad
  )


@pytest.mark.slow
def test_a_real_model_agrees_too():
  import transformers

  directory = smollm2.directory()
  theirs = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
  model = pure.language_model(families.read(directory))
  params = hf.load(directory, model)
  check_imitation(theirs, model, params)
  with torch.no_grad():
    reference = {
      **params,
      "trunk": {**params["trunk"], "embedding": 0.9 * params["trunk"]["embedding"]},
    }
    their_reference = copy.deepcopy(theirs)
    their_reference.model.embed_tokens.weight.mul_(0.9)
  check_ratios(theirs, model, params, their_reference, reference)
