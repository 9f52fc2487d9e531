"""Adapters sent out beside their base: the right base, whole, and as PEFT opens both."""

import dataclasses
import json

import pytest
import tiny
import tiny_models

from pit_jax.exchange import convert, export, families, hf
from pit_jax.models import architecture, pure

ADAPTER = architecture.Adapter(rank=2, alpha=3.0)


def finish(workdir, seed):
  """Writes a finished run with adapters on a base drawn from a seed."""
  asking = tiny_models.inference_of(workdir / "learnt")
  shape = dataclasses.replace(asking.language.config, adapter=ADAPTER)
  language, scalar = pure.language_model(shape), pure.scalar_model(shape)
  asking = dataclasses.replace(asking, language=language, scalar=scalar)
  models = tiny_models.models_of(asking)
  base = tiny.parameters(language, seed)["trunk"]
  for params in models.values():  # one base below adapters of their own
    blocks = base["blocks"] | {"adapters": params["trunk"]["blocks"]["adapters"]}
    params["trunk"] = base | {"blocks": blocks}
  export.save(workdir, asking, models, zero_point=0.0)
  return asking, models


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("run")
  return workdir, *finish(workdir, seed=8)


def send(run, output, *names, **options):
  return convert.send_out(run[0], output, list(names), as_adapters=True, **options)


def test_the_base_is_in_the_type_asked_for(run, tmp_path):
  workdir, asking, models = run
  send(run, tmp_path, "policy", "reward", dtype="bfloat16")
  assert {path.name for path in tmp_path.iterdir()} == {"base", "policy", "reward"}
  base = tmp_path / "base"
  assert json.loads((base / "config.json").read_text())["dtype"] == "bfloat16"
  bare = pure.language_model(families.read(base))
  assert bare.config == dataclasses.replace(asking.language.config, adapter=None)
  hf.save(
    tmp_path / "slow", bare, pure.split(asking.language, models["policy"])[1], dtype="bfloat16"
  )
  files = [(folder / hf.WEIGHTS).read_bytes() for folder in (base, tmp_path / "slow")]
  assert files[0] == files[1]


def test_a_base_that_lies_there_is_used_only_if_it_is_the_same(run, tmp_path):
  send(run, tmp_path, "policy")
  first = (tmp_path / "base" / hf.WEIGHTS).stat().st_ino
  send(run, tmp_path, "improver")
  assert (tmp_path / "base" / hf.WEIGHTS).stat().st_ino == first
  other = tmp_path / "other"
  finish(other, seed=9)
  said = rf"{tmp_path / 'base'} is not the base of {other} in float32.*--output"
  with pytest.raises(ValueError, match=said):
    convert.send_out(other, tmp_path, ["policy"], as_adapters=True)
  with pytest.raises(ValueError, match="in bfloat16"):
    send(run, tmp_path, "policy", dtype="bfloat16")
  assert not (tmp_path / "base.partial").exists()
  (tmp_path / "base" / hf.WEIGHTS).unlink()  # half a base
  with pytest.raises(ValueError, match="is not the base"):
    send(run, tmp_path, "policy")


def test_a_kill_leaves_no_half_base(run, tmp_path, monkeypatch):
  def fail(*_, **__):
    raise OSError("disk full")

  with monkeypatch.context() as patch:
    patch.setattr(hf.safetensors.numpy, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
      send(run, tmp_path, "policy")
  assert not (tmp_path / "base").exists()
  send(run, tmp_path, "policy")
  assert {path.name for path in tmp_path.iterdir()} == {"base", "policy"}


@pytest.mark.parametrize("name", ["policy", "gap_reward"])
def test_the_base_is_named_by_its_place_beside_the_adapters(run, tmp_path, name):
  (directory,) = send(run, tmp_path / "out", name)
  said = json.loads((directory / "adapter_config.json").read_text())["base_model_name_or_path"]
  assert said == "base"
  assert not (directory / "config.json").exists(), "or transformers takes it for a whole model"
  for place in (directory, tmp_path / "out" / "base"):
    assert str(tmp_path) not in "".join(path.read_text() for path in place.glob("*.json"))
