"""Every value that cannot work is refused before training, by its key, itself and what can."""

import contextlib
import functools
import json
import math
import re

import allowed_values
import ml_collections
import pytest
from ml_collections.config_flags import config_path

from pit_jax import config_keys, configurations, ranges
from pit_jax.feedback import factories, language_judge, named
from pit_jax.recipes import finished, recipe
from pit_jax.run import allowed, checks, origin, workdirs
from pit_jax.tools import keys

# Those that have every key together.
NAMED = (
  "pit:tiny",
  "dpo:tiny",
  "rlaif:tiny",
  "irft:tiny",
  "rft:tiny",
  "salmon:tiny",
  "ser:tiny",
  "hrlaif:tiny",
  "cot:tiny",
  "ares:tiny",
  "instructors:tiny",
  "srt:tiny",
  "multicritique:tiny",
  "base:tiny",
  "bandit:paper",
  "own_pairs:smollm2_135m",
)
OWN = "feedback."  # whose names are anybody's, and which who is named so looks at
WRONG = (-1, 0, math.nan, math.inf, "no_such_name", "", None, [], ["no_such_name"], 2.5, True)

STRUCTURE = ("kind", "fold", "folds")  # on which the ranges of other keys depend


def may(key: str, value) -> bool:
  return any(
    re.fullmatch(pattern, key) and any(type(one) is type(value) and one == value for one in values)
    for pattern, values, _ in allowed_values.MAY
  )


@contextlib.contextmanager
def having(config: ml_collections.ConfigDict, key: str, value):
  """Within the block a configuration has a value at a key, whatever its type."""
  section, _, name = key.rpartition(".")
  holder = config_path.get_value(section, config) if section else config
  before = holder.get_ref(name)
  with config.unlocked(), config.ignore_type(), holder.unlocked(), holder.ignore_type():
    try:
      # A reference would change what it refers to.
      del holder[name]
      setattr(holder, name, tuple(value) if isinstance(value, list) else value)
      yield
    finally:
      del holder[name]
      setattr(holder, name, before)


@functools.cache
def table(name: str) -> allowed.Ranges:
  """Returns the ranges of the configuration of a recipe."""
  (size,) = (one for one in NAMED if one.partition(":")[0] == name)
  return allowed.of(configurations.load(size), recipe.named(name))


def refusal(config: ml_collections.ConfigDict, key: str, value) -> str:
  """Returns what `checks.values` says of a value, whatever its type; "" where it lets it pass."""
  method = recipe.of(config)
  pattern = re.sub(r"\[\d\]", ranges.IN_TUPLE, key)
  # By its range alone, which is fast; all else is asked only of values that are within.
  alone = {} if key.endswith(STRUCTURE) else {pattern: table(config.recipe)[pattern]}
  with having(config, key, value):
    if said := [*ranges.outside(config, alone)]:
      return "; ".join(said)
    try:
      checks.values(config, method)
    except ValueError as error:
      return str(error)
  return ""


def every_key() -> dict[str, ml_collections.ConfigDict]:
  """Returns every key of the shipped configurations, with one that has it."""
  loaded = [configurations.load(named) for named in NAMED]
  pairs = [(key, config) for config in loaded[::-1] for key, _ in config_keys.leaves(config)]
  return {key: config for key, config in pairs if not key.startswith(OWN)}


@pytest.fixture(scope="module")
def configured():
  return every_key()


def test_the_configurations_tried_have_every_key_of_those_that_are_shipped(configured):
  shipped = [configurations.load(name) for name in configurations.names()]
  there = {key for config in shipped for key, _ in config_keys.leaves(config)}
  assert {key for key in there if not key.startswith(OWN)} == {*configured}


@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_every_value_of_every_key_is_refused_by_name_or_can_work(configured, value):
  for key, config in configured.items():
    said = refusal(config, key, value)
    if may(key, value):
      assert not said, f"{key}={value!r} may be, and is refused: {said}"
    else:
      # Of a list it may be the element that is named.
      given = (tuple(value), *value) if isinstance(value, list) else (value,)
      assert key in said and any(repr(one) in said for one in given), f"{key}={value!r}: {said!r}"
      assert re.search("; (use|give|write|leave)", said), f"{key}={value!r}: {said!r}"


@pytest.mark.parametrize(
  ("value", "allowed_instead"),
  [
    ("temperature=inf", "use 0 or more, and finite"),
    ("sft.epochs=inf", "use 0 or more, and finite"),
    ("model.rope_theta=inf", "use more than 0, and finite"),
    ("model.lora.alpha=nan", "use more than 0, and finite"),
    ("model.lora.base=int2", "use one of float32, bfloat16, int8"),
    ("evaluation.margin=nan", "use a number"),
    ("frontier.prompts=0", "use 1 or more, a whole number"),
    ("checkpoints.keep=0", "use 1 or more, a whole number"),
    ("checkpoints.timeout=nan", "use more than 0, and finite"),
    ("sft.packed_length=-1", "use 0 or more, a whole number"),
    ("profile.stage=foo", 'use "", or one of sft_policy, reward, rl_policy, sft_improver, gap_rew'),
    ("profile.stage=references", 'use "", or one of sft_policy'),  # samples alone
    ("data.prompts_only=('foo',)", "use (), or some of data.folds=('sft', 'reward', 'rl')"),
    ("data.folds=('sft', 'held_out')", "none that a part of the rows has: held_out, judge"),
    ("data.folds=('sft', 'sft')", "each once"),
    ("data.fold_sizes=('a', 'b', 'c')", "use (), or 3 numbers above 0"),
    ("data.fold_sizes=(1.0, 2.0)", "use (), or 3 numbers above 0"),
    ("data.vocabulary=200", "use 258 or more"),
    ("gap_reward.term_weights=('a', 'b', 'c', 'd', 'e')", "use 5 numbers of 0 or more, not all 0"),
    ("curriculum[0].references=('dataset',)", "use some of dataset.rejected, dataset.chosen, pol"),
    ("curriculum[0].name=../x", "use a name of letters"),
    ("model.lora.targets=('query', 'query')", "use some of query, key"),
    ("mesh.shape=(1, -1, -1)", "one of them at most, -1"),
  ],
)
def test_what_a_command_sets_is_refused_in_the_same_words(value, allowed_instead):
  config = configurations.load("pit:tiny")
  configurations.change(config, [f"--config.{value}"])
  with pytest.raises(ValueError) as error:
    checks.values(config, recipe.of(config))
  key, _, given = value.partition("=")
  said = str(error.value)
  assert said.startswith((f"{key}={given}; ", f"{key}={given!r}; ")) and allowed_instead in said


@pytest.mark.parametrize(
  "template",
  ["Q: {prompt", "Q: prompt}", "Q: {}", "Q: {prompt} {other}", "{prompt} A: ", "Q:", "{prompt!r}"],
)
def test_a_template_that_cannot_be_filled_is_refused(template):
  config = configurations.load("pit:tiny")
  said = refusal(config, "data.policy_template", template)
  assert said == (
    f"data.policy_template={template!r}; use a text with {{prompt}}, once each and without "
    "another brace, that ends in no space"
  )
  assert "{reference}" in refusal(config, "data.improver_template", "{prompt} or {prompt}")


def test_values_that_do_not_go_together_are_refused():
  config = configurations.load("pit:tiny")
  assert "'sft', whose responses the section sft" in refusal(config, "data.prompts_only", ("sft",))
  config.data.folds = ("sft", "compared", "rl")
  config.reward.fold = config.gap_reward.fold = "compared"
  assert "data.judge=0.5 is a part of the fold reward" in refusal(config, "data.judge", 0.5)


def test_ranges_that_are_printed_are_those_of_the_check():
  for name in NAMED:
    config = configurations.load(name)
    table = allowed.of(config, recipe.of(config))
    for key in (one for one in keys.described(name) if not one.key.startswith(OWN)):
      assert key.range == table[re.sub(r"\[\d\]", ranges.IN_TUPLE, key.key)].words, key.key


def test_a_missing_key_is_named():
  config = configurations.load("pit:tiny")
  with config.unlocked(), config.curriculum[1].unlocked():
    del config.curriculum[1].steps
    del config.checkpoints
  with pytest.raises(
    ValueError, match=r"checkpoints.keep is missing, .*; curriculum\[1\].steps is"
  ):
    checks.values(config, recipe.of(config))


# What the fields of writers and raters may be of the same values; all others are refused.
FIELDS = {
  "model": ("no_such_name",),
  "base_url": ("",),
  "cache": allowed_values.TEXTS,
  "max_tokens": (),
  "max_prompt_tokens": (),
  "budget_requests": (0,),
  "budget_tokens": (0,),
  "requests_per_minute": (0, 2.5),
  "input_price": (0, 2.5),
  "output_price": (0, 2.5),
  "retries": (0,),
  "wait": (0, 2.5),
  "timeout": (2.5,),
  "concurrency": (),
  "verdict": (),
  "prompts": (),
  "tie": (0,),
  "temperature": (0, 2.5),
}


@pytest.mark.parametrize("value", WRONG, ids=repr)
@pytest.mark.parametrize("part", ["writers", "raters"])
def test_the_same_of_writers_and_raters(part, value, monkeypatch):
  monkeypatch.setenv("OPENAI_API_KEY", "none")
  kind = {"writers": "endpoint", "raters": "language_model"}[part]
  fields = {*factories.KINDS[part][kind].needs, *factories.KINDS[part][kind].may}
  for field in sorted(fields):
    config = configurations.load("pit:tiny")
    given = {"kind": kind, "model": "m", field: value}
    with config.unlocked():
      config.feedback = ml_collections.ConfigDict({part: {"one": given}})
    key = f"feedback.{part}.one.{field}"
    if any(type(one) is type(value) and one == value for one in FIELDS[field]):
      named.check(config)
      continue
    with pytest.raises(ValueError, match="use") as error:
      named.check(config)
    assert key in str(error.value) and (repr(value) in str(error.value))


@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_sections_of_writers_and_raters_are_sections(value):
  config = configurations.load("pit:tiny")
  for content in (value, {"raters": value}, {"raters": {"r": value}}, {"raters": {"r": {}}}):
    with config.unlocked(), config.ignore_type():
      config.feedback = ml_collections.ConfigDict({"of": content}).of
    with pytest.raises(ValueError, match="feedback.*; use"):
      named.check(config)


@pytest.mark.parametrize("size", NAMED)
def test_no_list_of_names_has_one_of_them_twice(size):
  config = configurations.load(size)
  given = dict(config_keys.leaves(config))
  tried = 0
  for key, one in allowed.of(config, recipe.of(config)).items():
    there = given.get(key.replace(ranges.IN_TUPLE, "[0]"))
    own = [name for name in there if isinstance(name, str)] if isinstance(there, tuple) else []
    for name in {*own, "no_such_name"}:
      if one.holds((name,)) and key != "rl.rewards":  # of pairs, which the recipe looks at
        tried += 1
        assert not one.holds((name, name)) and "each once" in one.words, key
  assert tried >= 1 or size.startswith("bandit")


def test_verdicts_are_those_that_there_are_words_for():
  assert {*allowed.VERDICTS} == {*language_judge.ENDINGS}


def test_sizes_that_do_not_fit_are_named_by_their_keys():
  config = configurations.load("rlhf:tiny")
  config.model.base, config.model.heads = "none", 3
  checks.values(config, recipe.of(config))
  with pytest.raises(ValueError, match="^model.heads=3 is not a multiple of kv_heads=2"):
    origin.shape(config, None, 300, "cpu")


def test_a_run_of_an_earlier_version_is_refused_by_what_it_lacks(tmp_path):
  content = json.loads(configurations.load("rlhf:tiny").to_json())
  del content["data"]["columns"], content["compilation"]
  (tmp_path / "config.json").write_text(json.dumps(content))
  with pytest.raises(ValueError, match="columns is missing, as in a configuration of an earlier"):
    finished.evaluate(tmp_path, None)
  with pytest.raises(ValueError, match=r"holds a run with another .*\(data.columns: None there"):
    workdirs.is_new(configurations.load("rlhf:tiny"), tmp_path)
