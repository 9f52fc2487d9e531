"""What recipes declare of themselves, and that a new one is a file of its own."""

import dataclasses
import json
import re

import jax
import ml_collections
import pytest
import test_stages
import tiny_run

from pit_jax import configurations, parallel
from pit_jax.commands import convert, evaluate
from pit_jax.data import preferences
from pit_jax.exchange import export
from pit_jax.models import pure
from pit_jax.recipes import recipe as recipes
from pit_jax.recipes import running
from pit_jax.report import presentation, verdict
from pit_jax.run import kinds, memory
from pit_jax.stages import programs
from pit_jax.tools.plan import planning
from pit_jax.tools.plan import stages as plans
from pit_jax.training import writers

TOY = '''
"""Fine-tuning alone, from a file that no package holds."""

from pit_jax.configs import common
from pit_jax.evaluate import subject
from pit_jax.evaluate.experiments import length, main
from pit_jax.recipes import recipe
from pit_jax.run import kinds
from pit_jax.stages import jobs, sft


def get_config(size="tiny"):
  config = common.get_config(size)
  config.recipe = __file__
  config.lessons = common.sft(size)
  config.lessons.fold = "taught"
  config.data.folds, config.data.fold_sizes = ("taught", "spare"), (3.0, 1.0)
  config.data.prompts_only = ()
  return config.lock()


def train(context):
  job = context.config.lessons
  return sft.run(
    context, "taught_policy", context.rows.fold(job.fold), start=context.initial_policy(), job=job
  )


def of_run(context, policy):
  params = policy.params
  start = context.initial_policy()
  return subject.Policies(
    context,
    subject.suite_of(context, policy=params, sampler=params),
    models={"taught": params, "untaught": start},
    compared=[("taught", "untaught"), ("taught", "chosen")],
    control="taught_again",
  )


RECIPE = recipe.Recipe(
  name="toy",
  subject=of_run,
  problems=subject.unjudged,
  headline=("taught", "untaught"),
  experiments={"main": main.measure, "length": length.measure},
  kinds={"sft": jobs.SFT},
  stages=lambda config: [kinds.Stage("taught_policy", "lessons")],
  train=train,
  exported=lambda policy: {"models": {"policy": policy.params}, "zero_point": None},
)
'''


@pytest.fixture
def toy(tmp_path):
  path = tmp_path / "toy.py"
  path.write_text(TOY)
  return path


def config_of(recipe, **values):
  return ml_collections.ConfigDict({"recipe": recipe, **values})


def test_every_recipe_declares_itself_under_its_name():
  names = [
    "ares",
    "bandit",
    "base",
    "cot",
    "dpo",
    "hrlaif",
    "instructors",
    "irft",
    "multicritique",
    "own_pairs",
    "pit",
    "reward",
    "rft",
    "rlaif",
    "rlhf",
    "salmon",
    "ser",
    "srt",
  ]
  assert recipes.names() == names
  for name in recipes.names():
    assert recipes.named(name).name == name


@pytest.mark.parametrize("name", [name for name in recipes.names() if name != "bandit"])
def test_stages_are_of_sections_and_kinds_that_there_are(name):
  recipe = recipes.named(name)
  config = tiny_run.config(name).unlock()
  for values in ({}, {"ablations": True}, {"data.judge": 0.4}):
    if all(key.split(".")[0] in config for key in values):
      config.update_from_flattened_dict(values)
    stages = recipe.stages(config)
    assert len({stage.name for stage in stages}) == len(stages)
    for stage in stages:
      assert stage.section in kinds.sections(config)
      assert kinds.kind_of(recipe, config, stage) in recipe.kinds.values()
      folds = preferences.folds_in(kinds.fold_of(config, stage))
      assert {*folds} <= {*config.data.folds, "judge"}


@pytest.mark.parametrize("name", recipes.names())
def test_where_others_write_responses_have_the_length_that_the_limit_says(name):
  """Texts of teachers and of models are as long as they are, however short those of the data."""
  writers = tiny_run.config(name).get("feedback", {}).get("writers", {})
  assert recipes.named(name).own_texts == bool(writers)


def test_a_finished_run_logged_the_stages_that_its_recipe_declares(finished_run):
  context = finished_run.context
  stages = context.recipe.stages(context.config)
  learning = [
    stage for stage in stages if kinds.kind_of(context.recipe, context.config, stage).learns
  ]
  paths = (context.workdir / "metrics").glob("*.jsonl")
  logged = {path.stem: writers.read(path)[-1]["step"] for path in paths}
  assert logged == {stage.name: tiny_run.STEPS * _parts(stage, context) for stage in learning}


def _parts(stage, context):
  """Returns how many stages' iterations a stage of tiny_run has: ablations have them all."""
  return len(context.config.curriculum) if stage.steps == 2 * tiny_run.STEPS else 1


@pytest.mark.parametrize("name", [None, "ppo", 3, "finished", "recipe"])
def test_an_unknown_recipe_is_a_sentence_that_lists_what_there_is(name):
  with pytest.raises(
    ValueError,
    match=re.escape(f"use one of {', '.join(recipes.names())}"),
  ):
    recipes.of(config_of(name))


def test_a_path_without_a_recipe_is_named(tmp_path):
  with pytest.raises(ValueError, match="there is no such file"):
    recipes.of(config_of(str(tmp_path / "none.py")))
  empty = tmp_path / "empty.py"
  empty.write_text("")
  with pytest.raises(ValueError, match="has no RECIPE, a record of recipes/recipe.py"):
    recipes.of(config_of(str(empty)))


def test_an_unknown_kind_lists_what_the_recipe_has(tmp_path):
  config = tiny_run.config("rlhf").unlock()
  config.sft.kind = "gap"
  with pytest.raises(ValueError, match="sft.kind='gap'; use a kind of recipe rlhf, one of sft"):
    tiny_run.build(config, tmp_path / "run")


def test_a_stage_without_its_section_is_a_sentence_before_anything_is_trained(toy, tmp_path):
  config = small(toy)
  old = '"lessons")]'
  for new, said in (
    ('"lesson")]', "stage taught_policy of recipe toy trains by the section 'lesson'; the config"),
    ("config.lesson.section)]", "recipe toy wants a section that is not there"),
    ('"lessons", kind="teaching")]', "is of kind 'teaching'; the recipe has sft"),
  ):
    toy.write_text(TOY.replace(old, new))
    with pytest.raises(ValueError, match=re.escape(said)):
      running.run(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()


def small(path):
  """Returns the configuration of the toy recipe, cut down to seconds."""
  config = configurations.load(str(path)).unlock()
  values = {name: value for name, value in tiny_run.SMALL.items() if name.split(".")[0] in config}
  config.update_from_flattened_dict(values | {"lessons.steps": 3, "lessons.batch_size": 8})
  return config.lock()


def test_answers_that_nobody_can_score_are_refused_before_training(toy, tmp_path):
  config = configurations.load(str(toy)).unlock()
  config.data.source = "jsonl:pairs.jsonl"
  config.evaluation.language_judge.model = "any"  # which compares, and scores nothing
  with pytest.raises(ValueError, match="trains no reward model, and nobody else scores the ans"):
    tiny_run.build(config, tmp_path / "run")
  config.evaluation.reward_model = "some"
  assert not list(recipes.of(config).problems(config))


@pytest.mark.slow
def test_a_recipe_in_a_file_of_its_own_trains_resumes_exports_and_reports(
  toy, unrendered, tmp_path, monkeypatch
):
  config, workdir = small(toy), tmp_path / "run"
  running.run(config, workdir)

  results = json.loads((workdir / "report" / "results.json").read_text())
  assert results["headline"] == ["taught", "untaught"] and "taught_again" in results["systems"]
  assert results["controls"] == ["taught_again"]
  stage = results["stages"]["taught_policy"]
  assert stage["curve"]["loss"] and stage["facts"].keys() == {"validation loss", "loss"}
  assert stage["step"] == 3
  check_page((workdir / "report" / "report.html").read_text(), results)
  mesh = parallel.make_mesh((1, 1, 1))
  exported = export.load_one(workdir, "policy", mesh=mesh)
  assert not pure.is_scalar(exported.model)

  test_stages.forbid_steps(monkeypatch)
  evaluate.main([f"--workdir={workdir}", "--experiment=main"])
  again = json.loads((workdir / "report" / "results.json").read_text())
  assert again["comparisons"] == results["comparisons"] and again["stages"] == results["stages"]

  # No TPU is there to plan for; what a plan is made of is planned for these devices.
  run = planning.arrays(config, recipes.of(config), jax.devices()[:1], None)
  (planned,) = plans.stages(run, recipes.of(config), rows=150)
  assert (planned.name, planned.steps) == ("taught_policy", 3)
  assert [make().name for make in planned.makers] == [programs.imitation(run, "lessons", 32).name]
  assert memory.needs(run, recipes.of(config)).keys() == {"taught_policy"}

  convert.main(["export", f"--workdir={workdir}", f"--output={tmp_path / 'out'}"])
  card = (tmp_path / "out" / "policy" / "README.md").read_text()
  assert "the policy: answers a question" in card and verdict.headline(results, ANY) in card
  assert not METHODS.search(card.replace("`pit convert export", ""))


METHODS = re.compile(r"\b(PIT|RLHF|pit|rlhf|R_P|R_PIT|M_P|M_PIT)\b")
ANY = presentation.ANY


def check_page(page, results):
  """Asserts that a page says of the toy what is so, and nothing of other methods."""
  plain = re.sub(r"<tspan[^>]*>|</tspan>|</?sub>|\u200b", "", page)
  drawing = re.search(r'<svg class="pipeline wide".*?</svg>', plain, re.DOTALL)[0]
  texts = re.findall(r"<text[^>]*>([^<]*)</text>", drawing)
  assert texts[:2] == ["taught", f"{results['data']['folds']['taught']:,} rows"]
  assert "taught_policy" in texts and "sft" in texts and any("3 steps" in text for text in texts)
  assert "compared with untaught" in texts and len(re.findall(r'rx="5"', drawing)) == 2
  assert "<title>toy: " in page and "Recipe toy, data synthetic" in page
  assert f"<h1>{verdict.headline(results, ANY)}</h1>" in plain
  assert "Curves of the supervised stages." in plain and ">taught_policy<" in page
  visible = re.sub(r"<style>.*?</style>|<script>.*?</script>|pit_jax", "", plain, flags=re.DOTALL)
  assert not METHODS.search(visible), METHODS.search(visible)


def test_a_section_without_a_kind_is_told_from_one_that_is_not_there(toy, tmp_path):
  config = configurations.load(str(toy)).unlock()
  del config.lessons.kind
  with pytest.raises(
    ValueError, match=r"section 'lessons'; that has no `kind`; give it one of sft"
  ):
    tiny_run.build(config, tmp_path / "run")


def test_a_stage_that_the_recipe_does_not_declare_is_refused_when_it_begins(toy, tmp_path):
  path = tmp_path / "other.py"
  path.write_text(toy.read_text().replace('kinds.Stage("taught_policy"', 'kinds.Stage("taught"'))
  config = configurations.load(str(path)).unlock()
  small = {name: value for name, value in tiny_run.SMALL.items() if name.split(".")[0] in config}
  config.update_from_flattened_dict(small | {"lessons.steps": 3, "lessons.batch_size": 8})
  context = tiny_run.build(config, tmp_path / "run")
  with pytest.raises(ValueError, match="trains a stage 'taught_policy' and declares taught; give"):
    context.recipe.train(context)


def test_a_headline_that_nobody_compares_is_named(finished_run):
  recipe = dataclasses.replace(finished_run.context.recipe, headline=("pit", "nobody"))
  context = dataclasses.replace(finished_run.context, recipe=recipe)
  run = recipe.subject(context, finished_run.models)
  with pytest.raises(
    ValueError, match="compares pit with nobody, and its systems .* pit with orig"
  ):
    _ = run.headline
