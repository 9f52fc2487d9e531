"""Recipe `dpo` with several losses, and RLHF, from one fine-tuned policy: the arms of a report."""

import json
import re
from unittest import mock

import jax
import numpy as np
import pytest
import tiny_run

from pit_jax.commands import convert
from pit_jax.configs import dpo as configs
from pit_jax.exchange import hf, weights
from pit_jax.models import pure
from pit_jax.recipes import dpo as recipe
from pit_jax.recipes import running
from pit_jax.stages import dpo, supervised, trained

LOSSES = ["dpo", "ipo", "kto", "simpo", "orpo"]
FEW = {
  key: value
  for arm in LOSSES
  for key, value in ((f"{arm}__steps", tiny_run.STEPS), (f"{arm}__batch_size", 8))
}


def config(**changes):
  return tiny_run.config("dpo", "arms", **FEW | changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A finished run of all arms, as small as it comes: read it."""
  workdir = tmp_path_factory.mktemp("arms") / "run"
  running.run(config(), workdir)
  return workdir


def test_all_arms_stand_beside_fine_tuning_in_one_report(run):
  results = json.loads((run / "report" / "results.json").read_text())
  arms = [*LOSSES, "rlhf"]
  assert {*arms, "policy_sft", "dpo_resampled", "chosen", "rejected"} == {*results["systems"]}
  compared = {(row["a"], row["b"]) for row in results["comparisons"]}
  for arm in arms:
    assert (arm, "policy_sft") in compared and (arm, "chosen") in compared
    assert arm == "dpo" or (arm, "dpo") in compared
  assert results["headline"] == ["dpo", "policy_sft"]
  assert {row["judge"] for row in results["comparisons"]} == {"gold", "R_P"}
  stages = [stage.name for stage in recipe.stages(config())]
  assert stages == ["sft_policy", "reward", "rl_policy", *(f"{arm}_policy" for arm in LOSSES)]
  assert {*stages} == {*results["stages"]}


def test_any_system_of_the_report_can_be_exported(run, tmp_path, capsys):
  given = ["export", f"--workdir={run}", f"--output={tmp_path / 'out'}"]
  before = tiny_run.files(run / "models")
  convert.main([*given, "--system=kto"])
  assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "out" / "policy")
  assert [path.name for path in (tmp_path / "out").iterdir()] == ["policy"]
  assert "it is `kto`." in (tmp_path / "out" / "policy" / "README.md").read_text()
  study = recipe.train(tiny_run.build(config(), run))
  folder = tmp_path / "out" / "policy"
  written = weights.fill(pure.language_model(hf.read(folder)), hf.Directory(folder))
  jax.tree.map(np.testing.assert_array_equal, written, study.arms["kto"].params)
  assert tiny_run.files(run / "models") == before, "the run stays as it is"

  with pytest.raises(
    SystemExit, match="--system=cpo: no model of .* those with one are dpo, ipo, "
  ):
    convert.main([*given, "--system=cpo"])
  with pytest.raises(
    SystemExit, match="--system names whose policy is written; leave --models out"
  ):
    convert.main([*given, "--system=kto", "--models=reward"])


def test_the_reference_is_asked_once_for_all_arms(run):
  names = [path.name for path in (run / "rows").iterdir()]
  assert names == ["reference_on_reward.jsonl"]


def test_every_loss_is_that_of_its_section():
  made = config()
  for arm in LOSSES:
    assert made[arm].loss == ("sigmoid" if arm == "dpo" else arm)
    assert made[arm].fold == made.reward.fold == made.rl.fold == "reward"
  assert (made.simpo.beta, made.simpo.gamma, made.orpo.sft_coefficient) == (2.0, 1.0, 1.0)


def test_one_arm_is_the_run_as_it_was():
  made = tiny_run.config("dpo")
  assert tuple(made.arms) == ("dpo",)
  assert [stage.name for stage in recipe.stages(made)] == ["sft_policy", "dpo_policy"]
  assert {"ipo", "reward", "rl"}.isdisjoint({*made})


def test_a_size_without_other_arms_names_the_one_that_has_them():
  (said,) = recipe.problems(tiny_run.config("dpo", arms=("dpo", "kto")))
  assert said.endswith("has 'kto'; use some of dpo, or the size arms, which has a section for each "
                       "loss and for RL")  # fmt: skip


def test_a_few_arms_without_rlhf_train_no_reward_model(tmp_path):
  made = config(arms=("dpo", "simpo"))
  context = tiny_run.build(made, tmp_path / "run")
  study = recipe.RECIPE.train(context)
  assert [*study.arms] == ["dpo", "simpo"] and study.chain is None
  assert [stage.name for stage in recipe.stages(made)] == [
    "sft_policy", "dpo_policy", "simpo_policy",
  ]  # fmt: skip


@pytest.mark.parametrize(
  ("arms", "said"),
  [
    ((), "arms=(); use names of sections, such as 'dpo'"),
    (("ipo",), "arms=('ipo',); give 'dpo' first, whose policy the run is about"),
    (("dpo", "dpo"), "arms=('dpo', 'dpo'); use names of sections, such as 'dpo', each once"),
    (("dpo", "sft"), "arms=('dpo', 'sft') has 'sft'; use some of dpo, ipo, kto, orpo, rl, simpo"),
    (("dpo", "cpo"), "arms=('dpo', 'cpo') has 'cpo'; use some of dpo, ipo, kto, orpo, rl, simpo"),
  ],
)
def test_arms_that_cannot_be_trained_are_told(tmp_path, arms, said):
  with pytest.raises(ValueError, match=re.escape(said)):
    tiny_run.build(config(arms=arms), tmp_path / "run")


def test_real_dialogues_want_a_judge_where_rlhf_is_no_arm(tmp_path):
  made = config(data__source="example", arms=("dpo", "ipo"))
  (said,) = recipe.problems(made)
  assert "nobody else scores the answers" in said
  assert not [*recipe.problems(config(data__source="example"))]


def test_every_size_with_arms_fits_what_its_stages_keep():
  for size in configs.OF_ARMS:
    made = configs.get_config(size)
    names = [stage.name for stage in recipe.stages(made)]
    assert ("reward_judge" in names) == size.startswith("hh")
    assert len({*names}) == len(names)
    kept = [stage.kept for stage in recipe.stages(made)]
    assert len(kept[-1]) > len(kept[-2])


def test_with_adapters_a_paired_loss_is_given_one_base(tmp_path):
  """No second model: columns say what the reference does, and KTO's shares the frozen base."""
  given = {}

  def keep(context, name, model, objective, start, table, job, **named):
    given[name] = (start, named["frozen"])
    return trained.Trained(start, {})

  made = config(model__base="embedded", model__lora__rank=2, data__rows=80)
  context = tiny_run.build(made, tmp_path / "run")
  start = context.initial_policy()
  fold = context.rows.fold("reward")
  with mock.patch.object(supervised, "run", keep):
    for arm in ("dpo", "kto"):
      models = {"start": start, "reference": start}
      dpo.run(context, arm, fold, job=made[arm], **models)
  assert given["dpo"][1] == {}
  begun, frozen = given["kto"]
  own, other = (jax.tree.leaves(tree) for tree in (begun, frozen["reference"]))
  assert all(one is two for one, two in zip(own, other, strict=True))
