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
    ("rl.stepz: 3", "mine.yaml: 'rl.stepz' is no key of the configuration; near it are rl.steps"),
    ("rl: {steps: many}", "mine.yaml: .*rl.steps"),
    ("- 3", "mine.yaml holds list; give keys with values"),
    ("a: [", "mine.yaml cannot be read as YAML: .*line 1"),
    ("data.folds: {a: 1}", r"data.folds is a list and has no keys; .* as in \[\[a, 1\]\]"),
    (
      "rl: {rewards: {reward: 1.0, 'm:f': 2.0}}",
      r"of pairs, as in \[\[reward, 1.0\], \[m:f, 2.0\]",
    ),
    ("curriculum: [{steps: 4}]", r"mine.yaml: curriculum is a list of sections; .*\[0\]\..*file"),
    ("rl.rewards[1][1]: 4.0", r"rl.rewards\[1\]\[1\] is an element of a tuple, .* which is \(\)"),
  ],
)
def test_a_file_of_values_that_is_wrong_is_named(tmp_path, content, message):
  path = tmp_path / "mine.yaml"
  path.write_text(content)
  with pytest.raises(ValueError, match=message):
    configurations.change(configurations.load("pit:tiny"), [f"--values={path}"])


@pytest.mark.parametrize(
  ("argument", "message"),
  [
    ("rl.rewards[1][1]=3.0", r"rl.rewards\[1\]\[1\] is an element .* which is \(\('gap', 1.0\),\)"),
    ("rl.rewards[0][1]=3.0", "given as a whole; set rl.rewards"),
    ("data.folds[0]=sft", r"set data.folds, which is \('sft',"),
    ("curriculum[0]=3", r"is a section; set its keys one by one, as in curriculum\[0\]\.\w+$"),
    ("curriculum=({'steps': 4},)", "curriculum is a list of sections; set their keys"),
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
