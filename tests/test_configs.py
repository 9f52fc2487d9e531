"""Every configuration builds, refuses what it does not know, and runs to its report."""

import importlib
import json
import pathlib
import sys

import pytest
import tiny_run
from absl import flags
from ml_collections import config_flags

from pit_jax import configurations
from pit_jax.commands import train
from pit_jax.configs import common
from pit_jax.recipes import recipe, running
from pit_jax.run import checks
from pit_jax.tasks import synthetic

ROOT = pathlib.Path(__file__).resolve().parent.parent
NAMES = configurations.names()


def sizes(name):
  return getattr(importlib.import_module(f"pit_jax.configs.{name}"), "SIZES", common.SIZES)


ALL = [(name, size) for name in NAMES for size in sizes(name)]


def build(name, size):
  return importlib.import_module(f"pit_jax.configs.{name}").get_config(size)


def parse(monkeypatch, name, size, *overrides):
  """Returns the configuration that launch/train.py would see."""
  path = ROOT / "configs" / f"{name}.py"
  arguments = ["train.py", f"--config={path}:{size}", *overrides]
  monkeypatch.setattr(sys, "argv", arguments)  # where config_flags looks for overrides
  values = flags.FlagValues()
  config_flags.DEFINE_config_file("config", flag_values=values)
  values(arguments)
  return values.config


def test_there_are_configs():
  assert {"pit", "rlhf"} <= set(NAMES)
  assert {"tiny", "small"} <= set(common.SIZES)


@pytest.mark.parametrize(("name", "size"), ALL)
def test_every_config_names_a_recipe_and_can_be_written_down(name, size):
  config = build(name, size)
  assert recipe.of(config).name == config.recipe
  assert name == config.recipe or name.startswith(f"{config.recipe}_")
  written = json.loads(config.to_json())
  assert written == json.loads(build(name, size).to_json())
  if size in common.SIZES:
    assert written["model"]["width"] == common.SIZES[size]["width"]


@pytest.mark.parametrize(("name", "size"), ALL)
def test_a_mistyped_override_is_named(monkeypatch, name, size):
  config = build(name, size)
  assert config.is_locked
  with pytest.raises(AttributeError, match="sede"):
    config.sede = 1
  section = next(name for name in config if hasattr(config[name], "keys"))
  with pytest.raises(AttributeError, match="lerning_rate"):
    config[section].lerning_rate = 1.0
  with pytest.raises(AttributeError, match="lerning_rate"):
    parse(monkeypatch, name, size, f"--config.{section}.lerning_rate=1.0")
  if "curriculum" in config:
    with pytest.raises(AttributeError, match="stepz"):
      parse(monkeypatch, name, size, "--config.curriculum[0].stepz=1")


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_size_is_refused_with_those_there_are(name):
  with pytest.raises(ValueError) as caught:
    build(name, "huge")
  assert str(caught.value) == f"size 'huge' is not known; use one of {sorted(sizes(name))}"


def test_values_can_be_set_on_the_command_line(monkeypatch):
  overrides = {
    "--config.rl.steps=7": lambda config: config.rl.steps == 7,
    "--config.data.source=jsonl:x.jsonl": lambda config: config.data.source == "jsonl:x.jsonl",
    "--config.data.rows=30": lambda config: config.data.rows == 30,
    "--config.mesh.shape=(2,2,2)": lambda config: config.mesh.shape == (2, 2, 2),
    "--config.curriculum[1].steps=3": lambda config: config.curriculum[1].steps == 3,
    "--config.gap_reward.term_weights=(1.0,0.0,1.0,0.0,1.0)": lambda config: (
      config.gap_reward.term_weights == (1.0, 0.0, 1.0, 0.0, 1.0)
    ),
  }
  config = parse(monkeypatch, "pit", "tiny", *overrides)
  assert all(is_set(config) for is_set in overrides.values())


def report_of(workdir):
  """Returns results.json and the page of a finished run."""
  folder = workdir / "report"
  results = json.loads((folder / "results.json").read_text())
  return results, (folder / "report.html").read_text()


def judges_of(results):
  return {row["judge"] for row in results["comparisons"]}


def pairs_of(results):
  return {(row["a"], row["b"]) for row in results["comparisons"]}


REWARDED = ("pit_single_term", "pit_rp_difference")  # the improvers that something else rewarded
LONGER = ("rlhf_longer", "rlhf_longer_best_of_2")
ABLATIONS = ("pit_first_only", "pit_second_only", *LONGER, *REWARDED, "improver_dpo")


def test_the_report_says_what_each_improver_took(finished_run):
  """Counted by hand: PIT samples a reference per prompt and learns from two stages of responses."""
  results, page = report_of(finished_run.workdir)
  pairs, prompts = (len(finished_run.context.rows.fold(name).rows) for name in ("reward", "rl"))
  learnt = tiny_run.STEPS * tiny_run.SMALL["rl.batch_size"]
  took = {
    row["system"]: (row["pairs"], row["responses"], row["passes"]) for row in results["improvers"]
  }
  # Sampled; scored, read by policy, reference and value model; policy and value there and back.
  reinforced = 2 * learnt * (1 + 4 + 2 * 3)
  assert took == {
    "improver_sft": (0, 0, 0),
    "improver_dpo": (pairs, 0, learnt * 2 * 3),
    "pit": (pairs, 2 * learnt + prompts, learnt * 4 * 3 + reinforced + prompts),
  }
  seconds = {row["system"]: row["seconds"] for row in results["improvers"]}
  assert seconds["improver_sft"] == 0 < min(seconds["improver_dpo"], seconds["pit"])
  assert "Does reinforcement earn its cost?" in page
  assert ("improver_dpo", "improver_sft") in pairs_of(results)


def test_pit_runs_to_a_report_of_everything(finished_run):
  results, page = report_of(finished_run.workdir)
  config, systems = finished_run.context.config, results["systems"]
  trained = {"original", "policy_sft", "policy_resampled", "improver_sft", "pit", *ABLATIONS}
  spent = {
    "pit_rounds",
    "best_of_2",
    "best_of_n",
    "gap_tournament",
  }  # ways to spend as many samples
  assert trained | spent | {"chosen", "rejected"} == set(systems)
  for row in systems.values():
    weighed = sum(weight * row["checks"][name] for name, weight in synthetic.WEIGHTS.items())
    assert row["score_gold"] == pytest.approx(weighed) and 0 <= row["checks"]["malformed"] <= 1
  assert "What the answers get right" in page
  assert judges_of(results) == {"gold", "R_P", "R_PIT"}
  wanted = {(name, "original") for name in trained - {"original", "policy_sft"}}
  wanted |= {("pit", name) for name in ("improver_sft", *ABLATIONS)}
  found = pairs_of(results)
  assert wanted | {("original", "policy_sft"), ("original", "chosen")} <= found
  assert not {pair[::-1] for pair in found} & found, "no comparison is told twice"
  best = [row for row in results["comparisons"] if row["temperature"] == "best"]
  assert {row["judge"] for row in best} == {"gold", "R_PIT"}, "R_P chose the temperatures"
  assert [row["k"] for row in results["rounds"]] == list(range(config.evaluation.rounds + 1))
  temperatures = [(t, name) for t in config.evaluation.temperatures for name in ("original", "pit")]
  assert [(row["t"], row["system"]) for row in results["temperature"]] == temperatures
  assert {"wl", "ww", "ll", "lw", "accuracy"} <= set(results["gap_order"])
  assert [row["system"] for row in results["ablation"]] == ["pit", *REWARDED]
  assert [chain["chain"] for chain in results["frontier"]["chains"]] == ["policy", "improver"]
  assert set(results["seconds"]) == {*results["stages"], "evaluation"}
  assert results["data"]["cut"] > 0, "prompts of this run are cut, and it says so"
  assert results["notes"] == []
  assert "chat template" in results["absent"]["self_refine"] and "self_refine" not in results
  assert "self_refine is not among them" in page
  assert results["sampling"].keys() == {"original", "pit", "best_of_n"}
  assert all(seconds >= 0 for seconds in results["sampling"].values())
  assert page.count("<svg") >= 5 and "http://" not in page.replace("http://www.w3.org", "")
  for name in ("config.json", "models/run.json", "tensorboard", "samples/rl_policy.jsonl"):
    assert (finished_run.workdir / name).exists(), name


@pytest.fixture(scope="module")
def policy_run(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("rlhf")
  with tiny_run.unrendered():
    running.run(tiny_run.config("rlhf"), workdir)
  return workdir


def test_the_policys_chain_runs_alone(policy_run):
  results, page = report_of(policy_run)
  assert results["recipe"] == "rlhf"
  assert judges_of(results) == {"gold", "R_P"}
  wanted = {("original", "policy_sft"), ("original", "chosen"), ("policy_resampled", "original")}
  assert pairs_of(results) == wanted
  assert set(results["stages"]) == {"sft_policy", "reward", "rl_policy"}
  assert [chain["chain"] for chain in results["frontier"]["chains"]] == ["policy"]
  assert "RLHF" in page


def test_pit_and_rlhf_train_the_same_policy(finished_run, policy_run):
  # Shared data, shared stages, shared noise: what `pit` calls original is what `rlhf` trains.
  trained = tiny_run.files(policy_run / "models")
  shared = tiny_run.files(finished_run.workdir / "models")
  for name in ("policy/model.safetensors", "reward/model.safetensors"):
    assert trained[name] == shared[name], name


@pytest.mark.slow
def test_real_dialogues_run_without_a_gold_judge_and_say_so(
  shared_data, unrendered, tmp_path, capsys
):
  source = shared_data / "hh_harmless.jsonl.gz"
  if not source.exists():
    pytest.skip(f"{source} is absent")
  changes = {"data__source": f"hh:{source}", "data__rows": 150, "model__base": "auto"}
  command = ["--config=pit:tiny", f"--workdir={tmp_path}", *tiny_run.flags(**changes)]
  with tiny_run.here():
    train.main(command)
  results, page = report_of(tmp_path)
  assert results["data"]["rows"] == 150
  assert judges_of(results) == {"R_P", "R_PIT"}
  assert not any("score_gold" in system for system in results["systems"].values())
  assert not any("checks" in system for system in results["systems"].values())
  assert results["reward_models"]["R_PIT"]["sign_agreement"] is None
  (note,) = results["notes"]
  assert "no gold score" in note and "people" in note
  assert "no gold score" in page and "no gold score" in capsys.readouterr().out.replace("\n", " ")
  assert "mean gold score" not in page


@pytest.mark.parametrize(
  "changes, named, unit",
  [
    ({"gap_reward.batch_size": 12}, "gap_reward.batch_size=12", 8),
    ({"inference_batch_size": 12}, "inference_batch_size=12", 8),
    ({"reward.accumulation": 2}, "reward.batch_size=8 with reward.accumulation=2", 16),
    ({"rl.minibatches": 4}, "rl.batch_size=8 with rl.minibatches=4", 32),
    (
      {"rl.minibatches": 2, "rl.accumulation": 2},
      "rl.batch_size=8 with rl.minibatches=2 and rl.accumulation=2",
      32,
    ),
    ({"rl.samples": 2}, "rl.batch_size=8 with rl.samples=2", 16),
  ],
)
def test_rows_that_do_not_divide_are_refused_before_anything_is_trained(
  changes, named, unit, tmp_path
):
  config = tiny_run.config(mesh__shape=(2, 4, 1), **({"rl.minibatches": 1} | changes))
  with pytest.raises(ValueError) as error:
    tiny_run.build(config, tmp_path / "run")
  assert str(error.value).startswith(f"{named} has to be a multiple of {unit}: ")
  assert "over 8 devices (data=2 × fsdp=4)" in str(error.value)
  assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize(
  "changes, said",
  [
    ({"rl.steps": 0}, "rl.steps=0; use 1 or more"),
    ({"rl.epochs": 0}, "rl.epochs=0; use 1 or more"),
    ({"rl.minibatches": 0}, "rl.minibatches=0; use 1 or more"),
    ({"rl.temperature": 0.0}, "rl.temperature=0.0; use more than 0"),
    ({"rl.trace": 1.5}, "rl.trace=1.5; use from 0 to 1"),
    ({"rl.learning_rate": float("nan")}, "rl.learning_rate=nan; use more than 0"),
    ({"log_every_rl": 0}, "log_every_rl=0; use 1 or more"),
    ({"reward.accumulation": 0}, "reward.accumulation=0; use 1 or more"),
    ({"sft.steps": 0, "sft.epochs": 0.0}, "sft.epochs=0.0 with sft.steps=0; use more"),
    ({"gap_reward.select": "first"}, "gap_reward.select='first'; use one of last, best"),
    ({"data.held_out": 0.0}, "data.held_out=0.0; use more than 0 and less than 1"),
    ({"data.validation": 0.0}, "data.validation=0.0; use more than 0 and less than 1"),
    ({"evaluation.temperatures": ()}, "evaluation.temperatures=(); use some numbers, each 0"),
    ({"profile.stage": "reward", "profile.first": 9}, "profile.first=9 with profile.last=4 of"),
    ({"gap_reward.term_weights": (1.0,)}, "gap_reward.term_weights=(1.0,); use 5 numbers"),
    ({"rl.value_warmup": 3}, "rl.steps=3 with rl.value_warmup=3: only the value model would"),
    ({"rl.estimator": "ppo"}, "rl.estimator='ppo'; use one of gae, rloo, grpo"),
    ({"rl.estimator": "rloo"}, "rl.estimator='rloo' with rl.samples=1: a response is compared"),
    (
      {"rl.estimator": "grpo", "rl.samples": 2, "rl.kl_target": 3.0},
      "rl.kl_target=3.0 with estimator 'grpo', whose KL is in the loss",
    ),
    ({"rl.scale_rewards": False}, "rl.scale_rewards=False with rl.estimator='gae', which divides"),
    (
      {"rl.rewards": (("gold", 1.0),)},
      "rl.rewards names 'gold'; use some of reward, gap, length, or",
    ),
    ({"rl.value_warmup": 4, "rl.steps": 7}, "curriculum[0].steps=3 with rl.value_warmup=4: only"),
    ({"rl.value_warmup": 6, "rl.steps": 7}, "the steps of the curriculum=6 with rl.value_warmup"),
    ({"rl.steps": 0, "data.held_out": 1.0}, "data.held_out=1.0; use more than 0 and less than 1"),
  ],
)
def test_numbers_that_no_stage_can_use_are_named_before_anything_is_trained(
  changes, said, tmp_path
):
  with pytest.raises(ValueError) as error:
    tiny_run.build(tiny_run.config(**changes), tmp_path / "run")
  assert said in str(error.value)
  for key in changes:
    assert key.rsplit(".", maxsplit=1)[-1] in str(error.value) or key == "rl.samples"
  assert not (tmp_path / "run").exists()


def test_packed_rows_have_room_for_the_improvers_demonstrations_too(tmp_path):
  changed = {"sft__packing": True, "data__max_response_length": 24}
  with pytest.raises(ValueError, match="packed_length=8, and a demonstration has") as error:
    tiny_run.build(tiny_run.config(sft__packed_length=8, **changed), tmp_path / "run")
  longest = int(str(error.value).split(" tokens")[0].rsplit(" ", maxsplit=1)[-1])
  assert longest > 32 + 24, "the improver's have a reference beside prompt and response"
  with pytest.raises(ValueError, match=f"use at least {longest}, or 0"):
    tiny_run.build(tiny_run.config(sft__packed_length=longest - 1, **changed), tmp_path / "run")
  assert not (tmp_path / "run" / "config.json").exists()
  tiny_run.build(tiny_run.config(sft__packed_length=longest, **changed), tmp_path / "run")


@pytest.mark.parametrize(("name", "size"), [pair for pair in ALL if pair[0] != "base"])
def test_no_shipped_value_is_refused(name, size):
  config = build(name, size)
  checks.values(config, recipe.of(config))
