"""What docs/howto/configurations.md and sweeps.md show: files of one's own, values, a sweep."""

import pathlib
import re

import pytest

import pit_jax
from pit_jax import configurations
from pit_jax.tools import keys

HOWTO = pathlib.Path(__file__).resolve().parent.parent / "docs" / "howto"


def blocks(page, language):
  """Returns the blocks of a page in one language."""
  return re.findall(rf"```{language}\n(.*?)```", (HOWTO / page).read_text(), re.DOTALL)


def test_a_configuration_of_ones_own_is_six_lines(tmp_path):
  file = tmp_path / "mine.py"
  file.write_text(blocks("configurations.md", "python")[0])
  config = configurations.load(f"{file}:tiny")
  assert config.recipe == "rlhf" and config.rl.steps == 40
  assert config.rl.rewards == (("reward", 1.0), ("mine_rewards:brevity", 0.1))
  described = {key.key: key for key in keys.described(str(file))}
  assert described["rl.steps"].value == 40


def test_the_values_shown_can_be_set_in_files_and_in_python(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "mine.yaml").write_text(blocks("configurations.md", "yaml")[0])
  config = pit_jax.get_config("pit:tiny")
  configurations.change(config, ["--values=mine.yaml", "--config.seed=3"])
  assert config.rl.rewards == (("reward", 1.0), ("gap", 1.0)) and config.seed == 3
  assert config.curriculum[0].steps == 20 and config.data.folds == ("sft", "reward", "rl")
  (tmp_path / "rewards.yaml").write_text(blocks("rewards.md", "yaml")[0])
  configurations.change(config, ["--values=rewards.yaml"])
  assert config.rl.rewards[2] == ("my_package.my_module:brevity", 0.1)
  config.curriculum = config.curriculum[:1]
  assert len(config.curriculum) == 1


def test_the_sweep_over_weights_can_be_run(tmp_path, monkeypatch):
  pytest.importorskip("optuna", reason="optuna is absent; install the extra `sweep`")
  from pit_jax.tools.sweep import space

  (tmp_path / "mine.py").write_text("def brevity(prompts, responses, references):\n  return []\n")
  monkeypatch.syspath_prepend(tmp_path)
  file = tmp_path / "weights.py"
  file.write_text(blocks("sweeps.md", "python")[1])
  slots = space.load(file, pit_jax.get_config("rlhf:tiny")).slots()
  assert [slot["rl.rewards"][1][1] for slot in slots] == [0.0, 0.0, 1.0, 1.0, 4.0, 4.0]
