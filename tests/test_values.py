"""Configurations as commands take them: by name, with values from files, printed and compared."""

import pathlib
import subprocess
import sys

import pytest

from pit_jax import __main__, configurations
from pit_jax.commands import config as config_command

ROOT = pathlib.Path(__file__).resolve().parent.parent


def test_values_come_from_a_file_as_from_the_command_line(tmp_path):
  path = tmp_path / "mine.yaml"
  path.write_text(
    "rl:\n  steps: 9\n  learning_rate: 1e-5\n  rewards: [[gap, 1.0]]\n"
    "data.folds: [sft, reward]\nseed: 3\nmodel: {lora: {targets: [query]}}\nrl.warmup: 0\n"
  )
  by_file = configurations.load("pit:tiny")
  keys = configurations.change(by_file, [f"--values={path}", "--config.seed=4"])
  by_hand = configurations.load("pit:tiny")
  values = ["rl.steps=9", "rl.learning_rate=1e-5", "rl.rewards=(('gap', 1.0),)", "rl.warmup=0"]
  values += ["data.folds=('sft', 'reward')", "seed=4", "model.lora.targets=('query',)"]
  configurations.change(by_hand, [f"--config.{value}" for value in values])
  assert by_file.to_json() == by_hand.to_json()
  assert by_file.rl.rewards == (("gap", 1.0),) and by_file.rl.learning_rate == 1e-5
  assert keys[0] == "rl.steps" and keys[-1] == "seed" and len(keys) == 8


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ("rl.stepz: 3", "line 1: 'rl.stepz' is no key of the configuration; near it are rl.steps"),
    ("rl: {steps: many}", "mine.yaml, line 1: .*rl.steps"),
    ("- 3", "mine.yaml holds a list; give keys with values"),
    ("", "mine.yaml holds nothing; give keys with values"),
    ("a: [", "mine.yaml cannot be read as YAML: .*line 1"),
    ("a: " + "[" * 5000, "mine.yaml cannot be read as YAML: maximum recursion"),
    ("seed: 2024-13-45", "mine.yaml cannot be read as YAML: month must be in 1..12"),
    ("seed: 1\nmodel:", "line 2: .*model has keys of its own; set those, as in model"),
    ("curriculum: [{steps: 3}]", r"set those, as in curriculum\[0\]"),
    ("rl:\n  steps: null", "line 2: .*rl.steps=None: it has to have a value; give one, as in"),
    ("sft.packing: null", "give one, as in --config.sft.packing=False"),
    ("data.source:", 'line 1: data.source holds no value; write "" for an empty text'),
    ("data.source: no", 'True or False, and the key wants a text; write it in quotes, "no"'),
    ("wandb.project: [a]", "is a list, and the key wants a text; give one"),
    ("rl.steps: 3\nrl.steps: 4", "line 2: rl.steps stands in line 1 already"),
    ("rl:\n  steps: 3\nrl.steps: 4", "line 3: rl.steps stands in line 2 already"),
    ("rl: {steps: 3, steps: 4}", "line 1: steps stands in line 1 already"),
    ("seed: {}", "line 1: seed holds no key"),
    ("rl: &a {steps: *a}", "line 1: what stands here is within itself"),
    ("rl.rewards: &a [*a]", "line 1: what stands here is within itself"),
    ("? [a]\n: 3", "line 1: a key has to be a name"),
    ("data.folds: {a: 1}", r"data.folds is a list and has no keys; .* as in \[\[a, 1.0\]\]"),
    ("rl: {rewards: {'m:f': 2.0}}", r"rl.rewards is a list .* as in \[\[m:f, 1.0\]\]"),
    ("rl.rewards[1][1]: 4.0", r"rl.rewards\[1\]\[1\] is an element of a tuple, .* which is \(\)"),
  ],
)
def test_a_file_of_values_that_is_wrong_is_named(tmp_path, content, message):
  path = tmp_path / "mine.yaml"
  path.write_text(content)
  with pytest.raises(ValueError, match=message):
    configurations.change(configurations.load("pit:tiny"), [f"--values={path}"])


def test_texts_of_a_file_are_as_they_are_written(tmp_path):
  path = tmp_path / "mine.yaml"
  path.write_text(
    'wandb.project: 010\nprofile.stage: "no"\ndata.source: ""\ndata.rows: null\n'
    "rl: &b {warmup: 0.2, steps: 3}\nsft:\n  <<: *b\n  steps: 4\n"
  )
  config = configurations.load("pit:tiny")
  configurations.change(config, [f"--values={path}"])
  assert (config.wandb.project, config.profile.stage, config.data.source) == ("010", "no", "")
  assert config.data.rows is None
  assert (config.sft.warmup, config.sft.steps, config.rl.steps) == (0.2, 4, 3)


@pytest.mark.parametrize(
  ("values", "message"),
  [
    (["--config.rl.steps=None"], "it has to have a value; give one, as in --config.rl.steps=26"),
    (["--config.data.folds=None"], "write a list as in --config.data.folds=sft,reward,rl or"),
    (["--config.rl.steps", "9"], "give the value after =, as in --config.rl.steps=26"),
    (["--values", "x.yaml"], "name the file after =, as in --values=mine.yaml"),
    (["--values="], "--values= names no file"),
    (["--config.model=None"], "model has keys of its own; set those, as in model"),
  ],
)
def test_a_value_that_is_none_is_refused(values, message):
  with pytest.raises(ValueError, match=message):
    configurations.change(configurations.load("pit:tiny"), values)


def test_what_may_be_none_may_be():
  config = configurations.load("pit:tiny")
  values = ["--config.data.rows=None", "--config.sft.packing", "--config.wandb.project=None"]
  configurations.change(config, values)
  assert config.data.rows is None and config.sft.packing and config.wandb.project == "None"


@pytest.mark.parametrize(
  ("code", "message"),
  [
    ("def get_config():\n  return 1 / 0", "get_config.. fails .line 2, ZeroDivisionError"),
    ("def get_config():\n  return {}['a']", "line 2, KeyError: 'a'"),
    ("import json\njson.loads('')", "importing it fails .line 2, JSONDecodeError"),
    ("assert False", "line 1, AssertionError"),
    ("raise ImportError", "line 1, ImportError.; use one of ares, bandit"),
    ("x = (", "never closed .*line 1"),
    ("x = 3", "has no get_config.*use one of ares, bandit"),
    ("get_config = 3", "is int; it has to be a function that returns a ConfigDict"),
    ("def get_config(a, b): pass", "wants other arguments; it has to be a function that"),
    ("def get_config(): return 3", "returns int, and no ConfigDict"),
    ("def get_config(size): pass", "wants a size"),
  ],
)
def test_a_file_of_one_s_own_that_fails_is_told_with_its_line(code, message, tmp_path):
  path = tmp_path / "mine.py"
  path.write_text(code)
  with pytest.raises(ValueError, match=message) as told:
    configurations.load(str(path))
  assert "\n" not in str(told.value) and "mine.py" in str(told.value)


def test_a_difference_goes_by_the_key(capsys):
  config_command.main(["--diff", "pit:tiny", "pit:small", "--key=data."])
  lines = capsys.readouterr().out.splitlines()
  assert lines and all(line.startswith("data.") for line in lines)
  with pytest.raises(SystemExit, match="--yaml prints one configuration"):
    config_command.main(["--diff", "pit:tiny", "pit:small", "--yaml"])


def test_two_runs_are_compared_by_their_workdirs(capsys, tmp_path):
  for name, steps in (("a", 3), ("b", 4)):
    config = configurations.load("pit:tiny")
    config.rl.steps = steps
    (tmp_path / name).mkdir()
    (tmp_path / name / "config.json").write_text(config.to_json())
  both = [str(tmp_path / name) for name in "ab"]
  config_command.main(["--diff", *both])
  assert capsys.readouterr().out == "rl.steps: 3 → 4\n"
  config_command.main(["--diff", "pit:tiny", both[0]])
  assert capsys.readouterr().out == "rl.steps: 26 → 3\n"
  with pytest.raises(SystemExit, match="holds no run: there is no config.json"):
    config_command.main(["--diff", str(tmp_path), both[0]])


def test_values_are_set_in_one_configuration_and_not_in_two(capsys):
  with pytest.raises(SystemExit, match="--config.seed=3: values are set in one configuration"):
    config_command.main(["--diff", "pit:tiny", "pit:small", "--config.seed=3"])


@pytest.mark.parametrize(
  "value, said",
  [
    ("recipe=dpo", r"recipe dpo wants a section that is not there \(arms\); the configuration has"),
    ("rl.kind=foo", "kind=.*; use a kind of recipe .*, one of "),
  ],
)
def test_a_section_or_kind_that_the_recipe_has_not_is_named(value, said):
  with pytest.raises(SystemExit, match=said):
    config_command.main(["pit:tiny", f"--config.{value}"])


@pytest.mark.parametrize(
  ("argument", "message"),
  [
    ("rl.rewards[1][1]=3.0", r"rl.rewards\[1\]\[1\] is an element .* which is \(\('gap', 1.0\),\)"),
    ("rl.rewards[0][1]=3.0", "given as a whole; set rl.rewards"),
    ("data.folds[0]=sft", r"set data.folds, which is \('sft',"),
    ("curriculum[0]=3", r"is a section; set its keys one by one, as in curriculum\[0\]\.\w+$"),
    ("curriculum=({'steps': 4},)", "curriculum has keys of its own; set those"),
  ],
)
def test_an_element_of_a_tuple_is_not_set(argument, message):
  config = configurations.load("pit:tiny")
  config.rl.rewards = (("gap", 1.0),)
  with pytest.raises(ValueError, match=message):
    configurations.change(config, [f"--config.{argument}"])
  assert config.rl.rewards == (("gap", 1.0),) and len(config.curriculum) == 2


@pytest.mark.parametrize("named", ["pit:tiny", "configs/pit.py:tiny", "pit.py:tiny"])
def test_a_configuration_of_the_library_has_one_name_everywhere(named, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  expected = configurations.load(str(ROOT / "configs" / "pit.py") + ":tiny")
  assert configurations.load(named).to_json() == expected.to_json()


def test_a_key_without_a_value_takes_one_of_its_type():
  config = configurations.load("pit:small")
  assert config.data.rows is None
  configurations.change(config, ["--config.data.rows=120"])
  assert config.data.rows == 120
  configurations.change(config, ["--config.data.rows=None"])
  with pytest.raises(ValueError, match=r"config.data.rows"):
    configurations.change(config, ["--config.data.rows=many"])
  assert config.data.rows is None


def test_a_key_of_a_stage_of_a_tuple_is_found_by_its_name():
  config = configurations.load("pit:tiny")
  with pytest.raises(ValueError, match=r"'curriculum.steps' is no key of .* curriculum\[0\].steps"):
    configurations.change(config, ["--config.curriculum.steps=1"])
  assert configurations.change(config, ["--config.curriculum[0].steps=1"]) == [
    "curriculum[0].steps"
  ]
  assert config.curriculum[0].steps == 1


@pytest.mark.parametrize("name", __main__.names())
def test_a_command_explains_itself_without_anything_heavy(name):
  heavy = "{'jax', 'torch', 'transformers', 'datasets', 'tensorflow', 'matplotlib', 'scipy'}"
  code = (
    f"import sys; from pit_jax.commands import {name} as command\n"
    f"try: command.main(['--help'])\nexcept SystemExit: pass\n"
    f"sys.exit(', '.join({heavy} & {{*sys.modules}}) or 0)"
  )
  done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert "usage:" in done.stdout


def test_what_is_printed_of_a_configuration_makes_it_again(tmp_path, capsys):
  config_command.main(["pit:tiny", "--config.rl.steps=9", "--yaml"])
  path = tmp_path / "all.yaml"
  path.write_text(capsys.readouterr().out)
  config_command.main(["pit:tiny", f"--values={path}", "--yaml"])
  assert capsys.readouterr().out == path.read_text()
  assert "rl.steps: 9" in path.read_text()

  config_command.main(["--diff", "pit:tiny", "pit:1b"])
  lines = capsys.readouterr().out.splitlines()
  assert "data.max_prompt_length: 64 → 1024" in lines
  assert not [line for line in lines if line.startswith("seed:")]

  config_command.main(["pit:tiny", "--key=rl.clip"])
  printed = capsys.readouterr().out
  assert "rl.clip = 0.2\n    ε of PPO" in printed and "rl.steps" not in printed
  assert max(map(len, printed.splitlines())) <= 80


@pytest.mark.parametrize(
  ("value", "message"),
  [
    ("rl.rewards=(('gold', 1.0),)", "rl.rewards names 'gold'; use some of reward, gap"),
    ("rl.rewards=(('absent_module:f', 1.0),)", "absent_module:f cannot be imported"),
    ("rl.steps=-1", "rl.steps=-1; use"),
  ],
)
def test_values_that_no_run_could_have_are_not_printed(value, message):
  with pytest.raises(SystemExit, match=message):
    config_command.main(["pit:tiny", f"--config.{value}"])


@pytest.mark.parametrize("named", ["kl", "sweeps/kl.py", "configs/sweeps/kl.py"])
def test_a_sweep_of_the_library_is_found_by_its_name(named, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  found = configurations.place(named, "sweeps")
  assert found.samefile(ROOT / "configs" / "sweeps" / "kl.py")
  assert configurations.place("nothing", "sweeps") is None
