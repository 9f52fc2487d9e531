"""Every key of a configuration is explained where it is made, and nowhere else."""

import pathlib
import textwrap

import pytest
import test_configs

from pit_jax import config_keys, configurations
from pit_jax.tools import keys

NAMED = [f"configs/{name}.py:{size}" for name, size in test_configs.ALL]

OWN = '''
"""A configuration of one's own."""

import ml_collections

from pit_jax.configs import common

def get_config(size="tiny"):
  config = common.get_config(size)
  config.recipe = "rlhf"  # which method
  config.data.rows = 30  # few
  config.sft = section()
  config.parts = (part(1), part(2))

  # Nothing about the next line, from which a blank one parts it.

  config.silent = 1
  if size == "small":
    config.silent = 2  # much
  extend(config)
  return config.lock()

def section():
  job = common.supervised("sft", "sft", epochs=1.0, learning_rate=1e-3)
  job.batch_size = 4  # what is said here
  # Two lines
  # above
  job.style = (
    "x"  # and one beside
  )
  return job

def part(number):
  made = ml_collections.ConfigDict()
  made.number = number  # of the part
  return made

def extend(config):
  config.last = True  # whether it is last
'''


@pytest.fixture
def own(tmp_path):
  path = tmp_path / "own.py"
  path.write_text(textwrap.dedent(OWN))
  return str(path)


@pytest.mark.parametrize("named", NAMED)
def test_every_key_of_every_shipped_configuration_has_a_meaning(named):
  described = keys.described(named)
  assert [key.key for key in described if not key.meaning] == []
  config = configurations.load(named)
  for key in described:
    config_keys.check(key.key, config)


def test_a_meaning_is_what_stands_beside_or_above_the_line_that_makes_a_key(own):
  described = {key.key: key for key in keys.described(own)}
  assert described["recipe"].meaning == "which method"
  assert described["sft.batch_size"].meaning == "what is said here"
  assert described["sft.style"].meaning == "Two lines above and one beside"
  assert described["last"].meaning == "whether it is last"
  assert described["silent"].meaning == ""
  assert (described["data.rows"].value, described["data.rows"].meaning[:4]) == (30, "the ")
  assert [described[f"parts[{i}].number"].value for i in (0, 1)] == [1, 2]
  assert described["parts[1].number"].meaning == "of the part"


def test_ranges_are_what_is_refused_by():
  described = {key.key: key.range for key in keys.described("configs/pit.py:tiny")}
  assert described["rl.trace"] == "from 0 to 1"
  assert described["data.held_out"] == "more than 0 and less than 1"
  assert described["evaluation.stop_rule"] == "one of both_orders, draft_zero, zero_point"
  assert described["rl.whiten_rewards"] == "True or False"
  assert described["data.source"].startswith("synthetic, synthetic:classes, ")
  assert "rl.estimator" in described
  assert "rl.estimator" not in {key.key for key in keys.described("configs/dpo.py:tiny")}


def test_what_is_no_configuration_is_refused():
  with pytest.raises(ValueError, match="there is no file"):
    keys.described("configs/none.py:tiny")
  assert not pathlib.Path("configs/none.py").exists()
