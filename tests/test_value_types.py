"""Values of every type as a command line has them: texts of others, lists, and none at all."""

import re

import pytest
from ml_collections.config_flags import config_path

from pit_jax import config_keys, configurations
from pit_jax.recipes import recipe
from pit_jax.run import allowed


@pytest.mark.parametrize(
  ("key", "text", "message"),
  [
    ("rft.rounds", "two", "'two' is no whole number; give one, as in --config.rft.rounds=2"),
    ("rft.rounds", "", "'' is no whole number; give one"),
    ("rl.steps", "2.5", "'2.5' is no whole number; give one, as in --config.rl.steps=26"),
    ("temperature", "hot", "'hot' is no number; give one, as in --config.temperature=1.0"),
    ("rl.temperature", "hot", "'hot' is no number; give one, as in --config.rl.temperature=1.0"),
    ("sft.packing", "maybe", "'maybe' is neither True nor False; give one, as in --config.sft"),
    ("data.rows", "ten", "'ten' is no whole number; give one"),
    ("evaluation.judges", "(", "'(' is no list; write a list as in --config.evaluation.judges="
     "works_first or --config.evaluation.judges=\"('works_first',)\""),
    ("data.prompts_only", "a,,b", "'a,,b' is no list; write a list as in --config.data.prompts_"
     "only=a,b or --config.data.prompts_only=\"('a', 'b')\""),
    ("rl.rewards", "{'a': 1}", "is no list; write"),
  ],
)  # fmt: skip
def test_a_value_of_another_type_is_told_with_how_to_write_one(key, text, message):
  with pytest.raises(ValueError) as error:
    configurations.change(configurations.load("rft:tiny"), [f"--config.{key}={text}"])
  assert str(error.value).startswith(f"--config.{key}={text}: ")
  assert message in str(error.value)


def test_no_key_speaks_of_a_wrong_type_in_words_of_python():
  for name in ("pit:tiny", "dpo:arms", "rlaif:tiny", "rft:tiny", "salmon:tiny", "bandit:paper"):
    config = configurations.load(name)
    for key, value in config_keys.leaves(config):
      if not isinstance(value, str) and not config_keys.is_optional(key):
        with pytest.raises(ValueError) as error:
          configurations.change(config, [f"--config.{key}=(?"])
        said = str(error.value)
        assert f"--config.{key}=" in said and re.search(
          "; (give one|write a list), as |as in", said
        )
        assert not re.search(r"literal|int\(|float|bool|tuple", said.replace(key, "")), said


@pytest.mark.parametrize(
  ("text", "value"),
  [
    ("dpo,kto", ("dpo", "kto")),
    ("dpo, kto", ("dpo", "kto")),
    ("dpo", ("dpo",)),
    ("('dpo', 'kto')", ("dpo", "kto")),
    ('["dpo", "kto"]', ("dpo", "kto")),
    ("'a,b'", ("a,b",)),
    ("gpt-4,gpt-3.5-turbo", ("gpt-4", "gpt-3.5-turbo")),
    ("(('reward', 1.0), ('a.b:c', 0.5))", (("reward", 1.0), ("a.b:c", 0.5))),
    ("0.5,1", (0.5, 1)),
    ("()", ()),
    ("", ()),
  ],
)
def test_a_list_is_words_with_commas_or_python(text, value):
  config = configurations.load("dpo:arms")
  configurations.change(config, [f"--config.arms={text}"])
  assert config.arms == value


@pytest.mark.parametrize("value", ["samples=3", "estimator=grpo", "scale_rewards=False",
                                   "loss_kl_coefficient=0.1"])  # fmt: skip
def test_a_key_that_begins_without_a_value_can_be_without_one_again(value, tmp_path):
  config = configurations.load("pit:tiny")
  key = f"curriculum[0].{value.partition('=')[0]}"
  configurations.change(config, [f"--config.curriculum[0].{value}"])
  given = config_path.get_value(key, config)
  assert given is not None
  configurations.change(config, [f"--config.{key}=None"])
  assert config_path.get_value(key, config) is None
  configurations.change(config, [f"--config.curriculum[0].{value}"])
  assert config_path.get_value(key, config) == given, "the key still knows its type"
  (tmp_path / "mine.yaml").write_text(f"{key}: null")
  configurations.change(config, [f"--values={tmp_path / 'mine.yaml'}"])
  assert config_path.get_value(key, config) is None


def test_keys_that_may_be_none_are_those_whose_ranges_say_so():
  loaded = [
    configurations.load(name) for name in ("pit:tiny", "rlaif:tiny", "rft:tiny", "dpo:arms")
  ]
  able = {
    key
    for config in loaded
    for key, one in allowed.of(config, recipe.of(config)).items()
    if one.holds(None)
  }
  assert able == {*config_keys.OPTIONAL}


def test_a_file_of_values_in_latin_1_is_told_with_what_to_do(tmp_path):
  path = tmp_path / "mine.yaml"
  path.write_bytes("wandb.project: café".encode("latin-1"))
  with pytest.raises(ValueError) as error:
    configurations.change(configurations.load("pit:tiny"), [f"--values={path}"])
  assert str(error.value) == (
    f"{path}: byte 0xe9 at position 18 is no UTF-8; save the file as UTF-8, from Latin-1 with "
    "`iconv -f LATIN1 -t UTF-8`"
  )
