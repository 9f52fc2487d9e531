"""Adapters exchanged with PEFT: what we write it loads, what it writes we load."""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy
import tiny

from pit_jax import parallel
from pit_jax.exchange import bundle, hf, peft
from pit_jax.models import architecture, pure

ADAPTER = architecture.Adapter(rank=3, alpha=5.0)
SOME = architecture.Adapter(rank=2, alpha=2.0, targets=("query", "output", "down"))
TOKENS, MASK = tiny.ids(7, 3, 6), np.ones((3, 6), bool)
KINDS = {"causal": tiny.language, "classifier": tiny.scalar}


def adapted(network, adapter, seed=1):
  model = network(adapter=adapter)
  return model, tiny.parameters(model, seed=seed)


def write(tmp_path, network, adapter):
  """Writes a base and adapters; returns the model and its parameters."""
  model, params = adapted(network, adapter)
  bare = network()
  base = pure.join(pure.split(model, params)[1], _head(params))
  hf.save(tmp_path / "base", bare, base, pad_token_id=0)
  peft.save(tmp_path / "adapter", model, params, base=str(tmp_path / "base"), pad_token_id=0)
  return model, params


def _head(params):
  return {name: params[name] for name in ("head", "bias") if name in params}


def in_torch(tmp_path, kind, adapter="adapter"):
  """Returns what PEFT's model says of the tokens."""
  torch = pytest.importorskip("torch", reason="torch is absent; install the extra `parity`")
  library = pytest.importorskip("peft", reason="peft is absent; install the extra `parity`")
  import transformers

  if kind == "causal":
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
  else:
    base = transformers.AutoModelForSequenceClassification.from_pretrained(
      tmp_path / "base", num_labels=1
    )
  model = library.PeftModel.from_pretrained(base, str(tmp_path / adapter)).eval()
  ids = torch.tensor(TOKENS, dtype=torch.long)
  with torch.no_grad():
    return model(ids, attention_mask=torch.ones_like(ids)).logits.numpy()


def ours(model, params, kind):
  found = np.asarray(jax.jit(model.apply)(params, TOKENS, MASK))
  return found if kind == "causal" else found[:, -1:]


@pytest.mark.parity
@pytest.mark.parametrize("adapter", [ADAPTER, SOME], ids=["all", "some"])
@pytest.mark.parametrize("kind", KINDS)
def test_peft_loads_what_we_write(tmp_path, kind, adapter):
  model, params = write(tmp_path, KINDS[kind], adapter)
  found = in_torch(tmp_path, kind)
  np.testing.assert_allclose(found, ours(model, params, kind), rtol=0, atol=2e-4)


@pytest.mark.parity
def test_we_load_what_peft_writes(tmp_path):
  library = pytest.importorskip("peft", reason="peft is absent; install the extra `parity`")
  import torch
  import transformers

  hf.save(tmp_path / "base", tiny.language(), tiny.parameters(tiny.language(), seed=3))
  base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
  config = library.LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj", "up_proj"])
  made = library.get_peft_model(base, config)
  torch.manual_seed(0)
  for name, parameter in made.named_parameters():
    if "lora_" in name:
      torch.nn.init.normal_(parameter, std=0.3)
  made.save_pretrained(tmp_path / "adapter")
  hf.describe(tmp_path / "described", tiny.language(), {}, dtype="float32")
  (tmp_path / "described" / "config.json").rename(tmp_path / "adapter" / "config.json")
  adapter = peft.read(tmp_path / "adapter")
  assert adapter == architecture.Adapter(4, 6.0, ("query", "up"))
  model = tiny.language(adapter=adapter)
  params = pure.join(
    peft.load(tmp_path / "adapter", model), hf.load(tmp_path / "base", tiny.language())
  )
  np.testing.assert_allclose(
    ours(model, params, "causal"), in_torch(tmp_path, "causal"), rtol=0, atol=2e-4
  )


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_written_is_read_bit_for_bit(tmp_path, kind):
  model, params = write(tmp_path, KINDS[kind], SOME)
  assert peft.read(tmp_path / "adapter") == SOME
  found = pure.named(peft.load(tmp_path / "adapter", model))
  wanted = pure.named(pure.split(model, params)[0])
  assert found.keys() == wanted.keys()
  for name, leaf in found.items():
    np.testing.assert_array_equal(leaf, wanted[name], err_msg=name)


def places(model):
  abstract = jax.eval_shape(model.init, jax.random.key(0))
  return parallel.partition(abstract, model.axes, parallel.make_mesh((2, 2, 2)))


def test_models_of_a_bundle_share_their_base(tmp_path):
  policy, improver = (adapted(tiny.language, ADAPTER, seed) for seed in (1, 2))
  scores = adapted(tiny.scalar, ADAPTER, 3)
  base = policy[1]["trunk"]
  for _, params in (improver, scores):  # the same base below adapters of their own
    blocks = base["blocks"] | {"adapters": params["trunk"]["blocks"]["adapters"]}
    params["trunk"] = base | {"blocks": blocks}
  models = {"policy": policy, "improver": improver, "reward": scores}
  bundle.save(tmp_path, models, {})
  reader = bundle.Reader(tmp_path, "float32", True, "float32", "cpu", places)
  assert reader.names == ["improver", "policy", "reward"]
  read = {name: reader.load(name) for name in reader.names}
  for name, (_, params) in models.items():
    found, wanted = pure.named(read[name]), pure.named(params)
    assert found.keys() == wanted.keys()
    for leaf, value in found.items():
      np.testing.assert_array_equal(value, wanted[leaf], err_msg=f"{name} {leaf}")
  shared = [read[name]["trunk"]["embedding"] for name in reader.names]
  assert shared[0] is shared[1] is shared[2]


def test_a_whole_model_takes_the_place_of_adapters(tmp_path):
  write(tmp_path, tiny.language, SOME)
  assert peft.is_adapter(tmp_path / "adapter")
  whole = tiny.language()
  params = tiny.parameters(whole, seed=5)
  hf.save(tmp_path / "adapter", whole, params)
  assert not peft.is_adapter(tmp_path / "adapter")
  reader = bundle.Reader(tmp_path, "float32", True, "float32", "cpu", places)
  assert reader.describe("adapter").config.adapter is None
  jax.tree.map(np.testing.assert_array_equal, reader.load("adapter"), params)


@pytest.mark.parametrize(
  ("change", "said"),
  [
    ({"use_dora": True}, "use_dora=True is not supported"),
    ({"peft_type": "IA3"}, "peft_type='IA3' is not supported, only 'LORA'"),
    ({"target_modules": ["lm_head"]}, "target_modules=\\['lm_head'\\]; name some of q_proj"),
    ({"target_modules": "all-linear"}, "target_modules='all-linear'"),
  ],
)
def test_adapters_of_another_kind_are_refused(tmp_path, change, said):
  write(tmp_path, tiny.language, SOME)
  path = tmp_path / "adapter" / peft.CONFIG
  path.write_text(json.dumps(json.loads(path.read_text()) | change))
  with pytest.raises(ValueError, match=said):
    peft.read(tmp_path / "adapter")


def test_tensors_that_do_not_fit_are_all_named(tmp_path):
  model, _ = write(tmp_path, tiny.language, SOME)
  path = tmp_path / "adapter" / peft.WEIGHTS
  tensors = safetensors.numpy.load_file(path)
  first, second, *_ = sorted(tensors)
  tensors[second] = tensors[second][:-1]
  tensors["stray"] = tensors.pop(first)
  safetensors.numpy.save_file(tensors, path)
  with pytest.raises(ValueError) as caught:
    peft.load(tmp_path / "adapter", model)
  for part in (f"{first} is missing", f"{second} has shape", "stray is not part of the adapters"):
    assert part in str(caught.value)
