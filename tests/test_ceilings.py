"""How many requests a run makes of endpoints at most, as it is said before anything is asked."""

import ml_collections
import pytest
import tiny_run

from pit_jax.feedback import ceilings
from pit_jax.recipes import recipe, schedule

NAMES = [name for name in recipe.names() if name not in ("bandit", "base")]
ROWS = {"a": 100, "a_validation": 10, "b": 30, "b_validation": 3, "held_out": 40}


def config(writers, raters):
  """Returns the sections of a configuration that lines are about."""
  made = tiny_run.config("rlaif").unlock()
  made.feedback = ml_collections.ConfigDict({"writers": writers, "raters": raters})
  return made


def endpoint(**more):
  return {"kind": "endpoint", "model": "big", "max_tokens": 100} | more


def said(asked, writers=None, raters=None):
  return [*ceilings.lines(config(writers or {}, raters or {}), asked)]


def test_prompts_are_those_of_all_folds_with_those_that_validate():
  assert ceilings.prompts(ROWS, "a") == 110
  assert ceilings.prompts(ROWS, "a+b") == 143
  assert ceilings.prompts(ROWS, "none") == 0


def test_what_all_passes_ask_of_one_model_is_a_line():
  asked = [ceilings.Asked("writers", "teacher", count) for count in (1_000, 24)]
  (line,) = said(asked, {"teacher": endpoint(output_price=0.5)})
  assert line == "teacher (big), whole run: ≤1,024 requests, replies ≤103k tokens (≤0.06)"
  (line,) = said(asked, {"teacher": endpoint(model="x" * 60)})
  assert line == "teacher, whole run: ≤1,024 requests, replies ≤103k tokens"


def test_what_follows_from_replies_is_told_to_be_open():
  first, then = (ceilings.Asked("writers", "meta", count) for count in (10, None))
  there = {"meta": endpoint()}
  assert said([first, then], there) == [
    "meta (big), whole run: ≤10 requests, and what follows, replies ≤1k tokens"
  ]
  assert said([then], there) == ["meta (big), whole run: as many requests as replies ask for"]


def test_who_is_behind_no_endpoint_or_asked_nothing_has_no_line():
  asked = [ceilings.Asked("writers", name, 5) for name in ("file", "")]
  assert not said(asked, {"file": {"kind": "file", "path": "x"}})
  assert not said([ceilings.Asked("writers", "teacher", 0)], {"teacher": endpoint()})
  local = {"kind": "language_model", "model": "m", "base_url": "local"}
  assert not said([ceilings.Asked("raters", "self", 5, 2)], raters={"self": local})


def test_raters_are_asked_in_every_order_and_so_are_those_that_they_ask():
  judge = {"kind": "language_model", "model": "big", "max_tokens": 10, "base_url": "http://x/v1"}
  both = {"kind": "in_turn", "raters": ("judge", "gold")}
  by_class = {"kind": "by_class", "raters": (("talk", "both"),), "classify": "builtins:str"}
  raters = {"judge": judge, "gold": {"kind": "gold"}, "both": both, "by_class": by_class}
  asked = [ceilings.Asked("raters", "by_class", 50, 2), ceilings.Asked("raters", "judge", 7)]
  assert said(asked, raters=raters) == [
    "judge (big), whole run: ≤107 requests, replies ≤1.07k tokens"
  ]


def test_who_tells_classes_is_asked_about_every_prompt_of_the_data():
  made = tiny_run.config("hrlaif").unlock()
  made.feedback.writers.teller = ml_collections.ConfigDict(endpoint())
  del made.feedback.raters.by_class["rules"]
  made.feedback.raters.by_class.told_by = "teller"
  rows = dict.fromkeys(("sft", "reward", "reward_validation", "rl", "held_out"), 20)
  made.evaluation.prompts = 5
  assert [*schedule.asked(made, recipe.named("hrlaif"), rows)] == [
    "teller (big), whole run: ≤100 requests, replies ≤10k tokens"
  ]


def test_where_nothing_is_rewritten_nobody_has_to_rewrite():
  made = tiny_run.config("hrlaif").unlock()
  made.hrlaif.hybrid, made.hrlaif.controls = "unwritten", ()
  asked = recipe.named("hrlaif").asks(made, {"held_out": 0})
  assert not {"mender", "calm"} & {one.name for one in asked}


@pytest.mark.parametrize("name", NAMES)
def test_recipes_ask_writers_and_raters_that_there_are(name):
  made = tiny_run.config(name)
  method = recipe.named(name)
  rows = {part: 20 for fold in made.data.folds for part in (fold, f"{fold}_validation")}
  asked = [*method.asks(made, rows | {"held_out": 9})]
  for one in asked:
    assert not one.name or one.name in made.feedback[one.part]
    assert one.count is None or one.count > 0, "a fold that there is has rows"
  # Nobody is behind an endpoint there.
  assert not [*schedule.asked(made, method, rows | {"held_out": 9})]


def test_a_run_says_it_before_it_begins():
  made = tiny_run.config("srt", data__folds=("sft", "tuning", "dpo")).unlock()
  made.feedback.writers.teacher = ml_collections.ConfigDict(endpoint())
  rows = dict.fromkeys(("sft", "tuning", "tuning_validation", "dpo", "held_out"), 20)
  made.tuning.fold = "tuning"
  assert [*schedule.asked(made, recipe.named("srt"), rows)] == [
    "teacher (big), whole run: ≤40 requests, replies ≤4k tokens"
  ]
