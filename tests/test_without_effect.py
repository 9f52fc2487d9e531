"""Values that a base model decides itself are named where they are set."""

import pytest

from pit_jax import config_keys, configurations, hosts
from pit_jax.commands import train

TINY = "configs/pit.py:tiny"
WIDE = "--config.model.width=7"


@pytest.mark.parametrize(
  ("values", "named"),
  [
    ([WIDE], ["model.width"]),
    (
      ["--config.model.tied=false", WIDE, WIDE],
      ["model.tied", "model.width"],
    ),
    ([WIDE, "--config.model.base=models/some"], ["model.width"]),
    ([WIDE, "--config.model.base=none"], []),
    ([WIDE, "--config.data.source=jsonl:rows.jsonl"], []),  # "auto" is then none
    (["--config.model.dtype=bfloat16", "--config.model.lora.rank=8"], []),
  ],
)
def test_a_shape_beside_a_base_is_without_effect(values, named):
  config = configurations.load(TINY)
  keys = configurations.change(config, values)
  assert configurations.without_effect(config, keys) == named


def test_every_key_of_the_shape_is_one_of_the_configuration():
  config = configurations.load(TINY)
  for key in configurations.SHAPE:
    config_keys.check(key, config)
  config.model.unlock().base = "none"
  told = {key for key, _ in config_keys.leaves(config.model)}
  counts_with_a_base = {"base", "dtype", "remat", "unroll", "attention", "offload"}
  assert {f"model.{key}" for key in told - counts_with_a_base if "lora" not in key} == {
    *configurations.SHAPE
  }


def test_training_says_so_in_one_line(tmp_path, monkeypatch, caplog):
  monkeypatch.setattr(hosts, "start", lambda *_, **__: None)
  given = [f"--config={TINY}", f"--workdir={tmp_path / 'run'}", "--config.evaluation.rounds=0"]
  for values, lines in (([WIDE, "--config.model.heads=2"], 1), ([], 0)):
    caplog.clear()
    with pytest.raises(SystemExit, match="evaluation.rounds=0; use 1 or more"):
      train.main([*given, *values])
    said = [text for text in caplog.messages if "without effect" in text]
    assert len(said) == lines
    assert all(text.startswith("model.width, model.heads: without effect, as") for text in said)
