"""Our decoder against transformers' Llama with the same random weights, in float32 on CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from pit_jax.models import architecture

torch = pytest.importorskip("torch", reason="torch is absent; install the extra `parity`")
pytestmark = pytest.mark.parity

LENGTHS = [9, 4, 1, 6]
LENGTH = 9


def llama(config, params):
  """Returns a LlamaForCausalLM that holds our parameters."""
  import transformers

  names = transformers.LlamaConfig(
    vocab_size=config.vocabulary,
    hidden_size=config.width,
    intermediate_size=config.hidden,
    num_hidden_layers=config.layers,
    num_attention_heads=config.heads,
    num_key_value_heads=config.kv_heads,
    head_dim=config.head_width,
    rms_norm_eps=config.norm_epsilon,
    rope_parameters={"rope_type": "default", "rope_theta": config.rope.theta},
    tie_word_embeddings=config.tied,
    attn_implementation="eager",
  )
  model = transformers.LlamaForCausalLM(names).eval()
  result = model.load_state_dict(torch_state(config, params), strict=False)
  assert not result.unexpected_keys
  assert result.missing_keys == (["lm_head.weight"] if config.tied else [])
  model.tie_weights()
  return model


def torch_state(config, params):
  """Torch keeps every matrix as [out in], with heads and head width in one axis."""
  trunk, state = params["trunk"], {}
  state["model.embed_tokens.weight"] = trunk["embedding"]
  state["model.norm.weight"] = trunk["norm"]["scale"]
  if not config.tied:
    state["lm_head.weight"] = params["head"].T
  for layer in range(config.layers):
    block = jax.tree.map(lambda leaf: leaf[layer], trunk["blocks"])  # noqa: B023
    matrices = {
      "self_attn.q_proj": block["query"].reshape(config.width, -1),
      "self_attn.k_proj": block["key"].reshape(config.width, -1),
      "self_attn.v_proj": block["value"].reshape(config.width, -1),
      "self_attn.o_proj": block["output"].reshape(-1, config.width),
      "mlp.gate_proj": block["gate"],
      "mlp.up_proj": block["up"],
      "mlp.down_proj": block["down"],
    }
    prefix = f"model.layers.{layer}"
    state |= {f"{prefix}.{name}.weight": matrix.T for name, matrix in matrices.items()}
    state[f"{prefix}.input_layernorm.weight"] = block["attention_norm"]["scale"]
    state[f"{prefix}.post_attention_layernorm.weight"] = block["mlp_norm"]["scale"]
  return {name: torch.tensor(np.ascontiguousarray(leaf)) for name, leaf in state.items()}


@pytest.mark.parametrize("side", [tiny.left, tiny.right], ids=["left", "right"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("heads, kv_heads", [(4, 4), (4, 2), (4, 1), (8, 2), (2, 1)])
def test_logits_equal_llama(heads, kv_heads, tied, side):
  model = tiny.language(
    heads=heads, kv_heads=kv_heads, tied=tied, rope=architecture.Rope(theta=500.0)
  )
  params = tiny.parameters(model, seed=heads)
  tokens, mask = tiny.ids(1, len(LENGTHS), LENGTH), side(LENGTHS, LENGTH)
  actual = np.asarray(jax.jit(model.apply)(params, jnp.array(tokens), jnp.array(mask)))
  with torch.no_grad():
    expected = llama(model.config, params)(
      input_ids=torch.tensor(tokens, dtype=torch.long),
      attention_mask=torch.tensor(mask, dtype=torch.long),
      position_ids=torch.tensor(np.maximum(mask.cumsum(axis=1) - 1, 0)),
    ).logits.numpy()
  assert expected[mask].std() > 0.5  # or the comparison says little
  assert np.abs(actual[mask] - expected[mask]).max() < 2e-4
