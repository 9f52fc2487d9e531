"""Every kind of value that a configuration can have, through a sweep from storage to summary."""

import json
import pathlib

import numpy as np
import pytest
import tiny_run

pytest.importorskip("optuna", reason="optuna is absent; install the extra `sweep`")

from pit_jax import config_keys, configurations
from pit_jax.tools.sweep import processes, space, summary, trials

# Takes the place of launch/train.py: reads the values as it does, and has them as its result.
TRAIN = """
import json, pathlib, sys
from pit_jax.configs import pit
from pit_jax import configurations
*given, workdir = sys.argv[1:]
config = pit.get_config("tiny")
configurations.change(config, given)
folder = pathlib.Path(workdir.removeprefix("--workdir="))
(folder / "report").mkdir(parents=True)
(folder / "seen.json").write_text(config.to_json())
row = {"a": "pit", "b": "original", "judge": "gold", "temperature": 1.0, "n": 20,
       "delta": float(len(str(given))), "ci95": [0, 1]}
stages = {"pit": {"curve": {"objective/kl": [[0, 0.5]]}}}
results = {"comparisons": [row], "stages": stages, "seconds": {"a": 2.0}}
results["headline"] = [row["a"], row["b"]]
(folder / "report" / "results.json").write_text(json.dumps(results))
"""
# Key → values of every kind; the texts are such that a shell, a table or a figure could misread.
VALUES = {
  "mesh.shape": ((1, 1, 1), [1, 2, 1], (-1, 1, 1)),
  "evaluation.temperatures": ((0.5,), (0.5, 1.0)),
  "data.rows": (None, 120, 90),
  "data.source": ("synthetic", "jsonl:a b.jsonl", "csv:$x$_{1}=[/b],'é'\n.csv"),
  "sft.packing": (True, False),
  "rl.kl_coefficient": (1e-5, 0.25, 1),
  "wandb.project": ("", "None", "(1, 2)"),
  "listed": ([1, 2], ["a", "b,c"], []),
}


def config():
  """Returns a configuration that has a list too, which those of configs/ have not."""
  made = tiny_run.config().unlock()
  made.listed = [0]
  return made.lock()


def described(tmp_path, values, sampler="grid", count=0):
  path = tmp_path / "sweep.py"
  content = {"sampler": sampler, "trials": count, "space": values}
  path.write_text(
    f"inf, nan = float('inf'), float('nan')\ndef get_sweep():\n  return {content!r}\n"
  )
  return space.load(path, config())


def sweeping(tmp_path, sweep):
  (tmp_path / "train.py").write_text(TRAIN)
  storage = f"sqlite:///{tmp_path / 'sweep.db'}"
  return trials.Sweeping(sweep, (), tmp_path, storage, 10, [str(tmp_path / "train.py")])


@pytest.fixture(autouse=True)
def importable(monkeypatch):
  """Lets a trial's process find the configurations."""
  monkeypatch.syspath_prepend(str(pathlib.Path(__file__).resolve().parent.parent))


def plain(value):
  return json.loads(json.dumps(value))


@pytest.mark.parametrize("key", VALUES)
def test_a_value_of_any_kind_is_read_as_it_was_meant(tmp_path, key):
  for stored in VALUES[key]:
    sweep = described(tmp_path, {key: VALUES[key]})
    back = json.loads(json.dumps(space.as_stored(stored)))  # as a storage does
    assert sweep.value(key, back) == stored and type(sweep.value(key, back)) is type(stored)
    changed = config()
    configurations.change(changed, trials.flags({key: stored}))
    (seen,) = [value for name, value in config_keys.leaves(changed) if name == key]
    assert plain(seen) == plain(stored)


def test_all_kinds_go_through_storage_restart_and_summary(tmp_path, capsys, monkeypatch):
  monkeypatch.setenv("COLUMNS", "200")
  values = {"mesh.shape": ((-1, 1, 1), [1, 2, 1]), "data.rows": (None,)}
  sweep = described(tmp_path, values)
  run = sweeping(tmp_path, sweep)
  study = run.open()
  waiting = [row["values"] for row in summary.rows(study, sweep)]
  wanted = [
    {"mesh.shape": shape, "data.rows": rows}
    for shape in values["mesh.shape"]
    for rows in values["data.rows"]
  ]
  assert waiting == wanted, "before any trial began"
  again = sweeping(tmp_path, described(tmp_path, values))  # another process
  again.work(1)
  summary.write(again.open(), again.sweep, tmp_path)
  found = json.loads((tmp_path / "sweep.json").read_text())
  assert [row["state"] for row in found] == ["done"] * 2
  by_slot = {row["slot"]: row["values"] for row in found}
  assert [by_slot[slot] for slot in range(2)] == plain(wanted)
  for slot, asked in enumerate(plain(wanted)):
    seen = json.loads((tmp_path / "trials" / f"{slot:03d}" / "seen.json").read_text())
    assert (seen["mesh"]["shape"], seen["data"]["rows"]) == (
      asked["mesh.shape"],
      asked["data.rows"],
    )
  told = capsys.readouterr().out
  assert "(-1, 1, 1)" in told and "None" in told
  assert (tmp_path / "parallel.png").stat().st_size > 0


def test_texts_that_tables_and_figures_could_misread_are_shown_as_they_are(tmp_path, capsys):
  sweep = described(tmp_path, {key: VALUES[key] for key in ("data.source", "listed")})
  study = sweeping(tmp_path, sweep).open()
  for trial in range(9):
    asked = study.ask()
    for key in sweep.space:
      trials._suggest(asked, key, sweep.space[key])
    for name, value in {"delta": float(trial), "ci95": [0, 9], "judge": "gold"}.items():
      asked.set_user_attr(name, value)
    asked.set_user_attr("kl", 0.1)
    asked.set_user_attr("seconds", 2.0)
    study.tell(asked, float(trial))
  summary.write(study, sweep, tmp_path)
  assert "[1, 2]" in capsys.readouterr().out
  found = json.loads((tmp_path / "sweep.json").read_text())
  assert {json.dumps(row["values"]["listed"]) for row in found} == {"[1, 2]", '["a", "b,c"]', "[]"}
  assert {row["values"]["data.source"] for row in found} == set(VALUES["data.source"])


@pytest.mark.parametrize(
  ("values", "message"),
  [
    ({"rl.steps": (4, 2.5)}, r"rl\.steps=2\.5 cannot be set: .*is no whole number; give one"),
    ({"rl.steps": ("many",)}, r"rl\.steps='many' cannot be set"),
    ({"rl.steps": {"low": 0.5, "high": 3.5}}, r"rl\.steps=0\.5 cannot be set"),
    ({"data.source": (None,)}, "would be read as 'None'; give values of type str"),
    ({"data.source": (1,)}, "would be read as '1'; give values of type str"),
    ({"sft.packing": ("perhaps",)}, "cannot be set"),
    ({"mesh.shape": ("auto",)}, "give values of type tuple"),
    ({"rl": (3,)}, "cannot be set"),
    ({"rl.kl_coefficient": (0.1, 0.2, 0.1)}, "has a value twice"),
    ({"rl.kl_coefficient": (1, True)}, "has a value twice"),
    ({"rl.kl_coefficient": (float("nan"),)}, "would be read as nan"),
    ({"sft.batch_size": (8, 0)}, r"no run could have sft\.batch_size=0: "),
    ({"rl.steps": (4, 1), "rl.value_warmup": (0, 2)}, "rl.steps=1, rl.value_warmup=2: "),
    ({"recipe": ("pit", "cooking")}, "recipe"),
  ],
)
def test_what_cannot_work_is_refused_before_the_first_trial(tmp_path, values, message):
  with pytest.raises(ValueError, match=message):
    is_range = any(isinstance(value, dict) for value in values.values())
    described(tmp_path, values, *(("tpe", 3) if is_range else ("grid", 0)))


def test_arrays_of_numbers_are_values(tmp_path):
  path = tmp_path / "sweep.py"
  path.write_text(
    "import numpy as np\ndef get_sweep():\n  return {'sampler': 'grid', 'trials': 0, 'space': "
    "{'rl.kl_coefficient': np.array([0.1, 0.2]), 'rl.steps': tuple(np.arange(4, 6))}}\n"
  )
  found = space.load(path, config()).space
  assert found == {"rl.kl_coefficient": (0.1, 0.2), "rl.steps": (4, 5)}
  assert {type(value) for value in found["rl.steps"]} == {int}
  assert not any(isinstance(value, np.generic) for value in found["rl.kl_coefficient"])


def test_a_recipe_without_comparisons_is_refused_before_the_first_trial(tmp_path):
  path = tmp_path / "sweep.py"
  path.write_text(
    "def get_sweep():\n  return {'sampler': 'grid', 'trials': 0, 'space': {'seed': (1,)}}"
  )
  with pytest.raises(ValueError, match="recipe 'reward' has no comparison"):
    space.load(path, tiny_run.config("reward"))


def compared_run():
  """Results of a run of several arms, of which RL made one and the last stage a control."""
  rows = [
    {"a": a, "b": "sft", "judge": "gold", "temperature": 1.0, "n": 20, "delta": delta,
     "ci95": [0, 1]}
    for a, delta in (("dpo", 1.0), ("kto", 2.0), ("rft_1", 3.0), ("rlhf", 4.0))
  ]  # fmt: skip
  kls = {"rl_policy": 0.5, "rft_1": 0.25, "rft_shuffled_1": 9.0, "dpo_policy": None, "kto": None}
  stages = {
    name: {"curve": {} if kl is None else {trials.KL: [[1, kl]]}} for name, kl in kls.items()
  }
  headline = ["dpo", "sft"]
  return {"comparisons": rows, "headline": headline, "stages": stages, "seconds": {"a": 2.0}}


@pytest.mark.parametrize(
  ("pair", "delta", "kl"),
  [
    (None, 1.0, None),  # DPO pays no nat, whatever another arm pays
    (("kto", "sft"), 2.0, None),
    (("rft_1", "sft"), 3.0, 0.25),
    (("rlhf", "sft"), 4.0, 9.0),  # of no stage of its name: the last
  ],
)
def test_trials_are_ranked_by_one_comparison_and_its_own_stage(tmp_path, pair, delta, kl):
  found = trials.measure(compared_run(), tmp_path, pair)
  assert (found["delta"], found["kl"]) == (delta, kl)


def test_what_no_run_compares_is_told(tmp_path):
  with pytest.raises(processes.RunFailed, match="compares no kto with dpo, but dpo with sft, kto"):
    trials.measure(compared_run(), tmp_path, ("kto", "dpo"))


def test_a_sweep_may_say_what_is_compared(tmp_path):
  path = tmp_path / "sweep.py"
  content = {"sampler": "grid", "trials": 0, "space": {"seed": (0, 1)}}
  path.write_text(f"def get_sweep():\n  return {content | {'compared': ('kto', 'policy_sft')}!r}\n")
  assert space.load(path, config()).compared == ("kto", "policy_sft")
  path.write_text(f"def get_sweep():\n  return {content | {'compared': 'kto'}!r}\n")
  with pytest.raises(ValueError, match="compared='kto'; give the names of two systems, .'a', 'b'"):
    space.load(path, config())
