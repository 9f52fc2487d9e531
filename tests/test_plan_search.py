"""The search for the fastest configuration that fits, with a compiler that is stood in for."""

import itertools
import json

import jax
import pytest
import tiny_run

from pit_jax import costs
from pit_jax.recipes import pit
from pit_jax.tools.plan import compiled, hlo, planning, suggesting

pytestmark = pytest.mark.skipif(len(jax.devices()) != 8, reason="eight devices are wanted")
PEAK = costs.Peak(flops=1e12, bytes=1e11, memory=2**30, link=1e10)
ROWS = 1000


def candidate(hours, tensor=1, parts=1):
  config = tiny_run.config(mesh__shape=(1, 8 // tensor, tensor), gap_reward__accumulation=parts)
  return suggesting.Candidate(config, pit.RECIPE, hours)


def compiler(seconds=2.0, size=1000, asked=None):
  """Returns a compiler by which every program takes so long and is so large."""

  def compile(program):
    if asked is not None:
      asked.append(program)
    traffic = hlo.Traffic(seconds * PEAK.bytes, {}, {})
    return compiled.Compiled(program, 0, 1, size, 0.0, traffic, ())

  return compile


# Which are tried, and in what order


def search(ordered, real, is_over=lambda: False):
  """Returns (estimate, hours) of what was tried; `real` has the hours of each, or None."""
  heard = []

  def look(one):
    return suggesting.Tried(one, real[one.hours], 1, "step")

  tried = suggesting.search(ordered, look, is_over, heard.append)
  return [(one.candidate.hours, one.hours) for one in tried], heard


def test_the_best_comes_first_and_the_search_ends_where_nothing_promises_more():
  ordered = [candidate(hours) for hours in (1.0, 2.0, 3.0, 7.0)]
  # After 2 took 9, 3 may be faster; after it took 6, 7 may not.
  tried, heard = search(ordered, {1.0: None, 2.0: 9.0, 3.0: 6.0, 7.0: 1.0})
  assert tried == [(3.0, 6.0), (2.0, 9.0), (1.0, None)]
  assert "promises to be faster" in heard[-1]


def test_the_search_ends_with_its_time():
  ordered = [candidate(hours) for hours in (1.0, 2.0, 3.0)]
  times = iter([False, True])
  tried, heard = search(ordered, dict.fromkeys((1.0, 2.0, 3.0)), lambda: next(times))
  assert tried == [(1.0, None), (2.0, None)] and "the time is over" in heard[-1]
  # One is always tried.
  assert search(ordered, {1.0: 5.0}, lambda: True)[0] == [(1.0, 5.0)]


def test_what_to_set_is_written_as_flags():
  best = suggesting.Tried(candidate(1.0, tensor=2, parts=4), 3.0, 2**29, "gap_reward: step")
  text = suggesting.write([best], "title", PEAK)
  assert text.splitlines()[-1] == (
    "best: --config.mesh.shape=1,4,2 --config.model.remat=auto --config.dpo.accumulation=1 "
    "--config.gap_reward.accumulation=4 --config.reward.accumulation=1 --config.rl.accumulation=1 "
    "--config.sft.accumulation=1"
  )
  none = suggesting.Tried(candidate(1.0), None, 2**31, "pit_policy: iterate")
  assert "nothing that was tried fits" in suggesting.write([none], "title", PEAK)


def test_what_no_micro_batch_makes_fit_is_tried_once():
  ordered = [candidate(1.0, parts=1), candidate(2.0, parts=2), candidate(3.0, tensor=2)]
  asked = []

  def look(one):
    asked.append(one.hours)
    return suggesting.Tried(one, None, 1, "pit_policy: iterate", is_hopeless=one.hours == 1.0)

  suggesting.search(ordered, look, lambda: False, lambda text: None)
  assert asked == [1.0, 3.0]  # the second one has the mesh and the rematerialisation of the first


# What is asked of the compiler


def test_a_candidate_takes_its_steps_times_their_seconds():
  asked, one = [], candidate(1.0)
  found = suggesting.look(one, jax.devices(), PEAK, ROWS, compiler(asked=asked))
  # Three programs for each of three iterations, and three steps of gap reward modelling.
  assert found.hours == pytest.approx((3 * 3 + 3) * 2.0 / 3600)
  assert [program.name for program in asked] == ["iterate", "score", "sample", "step"]
  assert found.bytes < PEAK.memory and found.program


def test_what_does_not_fit_is_compiled_no_further():
  asked = []
  large = compiler(size=2 * PEAK.memory, asked=asked)
  found = suggesting.look(candidate(1.0), jax.devices(), PEAK, ROWS, large)
  assert found.hours is None and len(asked) == 1
  assert found.program == "pit_policy: iterate" and found.bytes > PEAK.memory and found.is_hopeless


def test_candidates_divide_batches_and_heads_and_come_in_order():
  config = tiny_run.config(gap_reward__batch_size=16, rl__batch_size=32)
  found = suggesting.candidates(config, pit.RECIPE, jax.devices(), PEAK, ROWS)
  hours = [one.hours for one in found]
  assert hours == sorted(hours) and hours[0] > 0
  flags = {one.flags for one in found}
  assert len(flags) == len(found)
  # The one key/value head cannot be cut, so all eight devices have rows: of the 8 rows of
  # imitation each has one, and no micro-batch is smaller.
  wanted = set(itertools.product([(1, 8, 1), (8, 1, 1)], [1], ["none", "dots", "full"]))
  assert {
    (one.config.mesh.shape, one.config.sft.accumulation, one.config.model.remat) for one in found
  } == wanted
  poor = costs.Peak(**{**PEAK.__dict__, "memory": 10_000})
  with pytest.raises(ValueError, match="nothing can fit.*keeps at least"):
    suggesting.candidates(config, pit.RECIPE, jax.devices(), poor, ROWS)


def test_an_estimate_grows_with_what_takes_longer():
  def hours(shape, peak=PEAK, **changes):
    changes = {"model__kv_heads": 2, "gap_reward__batch_size": 32, **changes}
    config = tiny_run.config(mesh__shape=shape, **changes)
    run = planning.arrays(config, pit.RECIPE, jax.devices(), None)
    return suggesting.estimate(run, pit.RECIPE, peak, ROWS)

  slow = {name: costs.Peak(**{**PEAK.__dict__, name: 1.0}) for name in ("flops", "link")}
  few, many = (hours((1, 8, 1), slow["link"], gap_reward__accumulation=n) for n in (1, 4))
  assert many > few  # more micro-batches gather the weights more often
  # Computing twice is a third more of training, and sampling computes once.
  once, twice = (hours((1, 8, 1), slow["flops"], model__remat=remat) for remat in ("none", "full"))
  assert 1.2 * once < twice <= 4 / 3 * once


# The whole plan


def test_a_plan_compiles_every_program_once_and_adds_up():
  asked, config = [], tiny_run.config(mesh__shape=(1, 8, 1))
  plan = planning.plan(config, pit.RECIPE, jax.devices(), PEAK, ROWS, (), compiler(asked=asked))
  # Of ten: imitation, and RL's three, for two lengths of prompts; two reward models.
  assert len(asked) == 10 == len({id(program) for program in asked})
  record = json.loads(json.dumps(plan.record()))
  programs = {"sft_policy": 1, "rl_policy": 3, "gap_reward": 1, "references": 1, "pit_data": 3}
  for stage, count in programs.items():
    assert record["hours"][stage] == pytest.approx(plan.steps[stage] * count * 2.0 / 3600)
  assert record["chip_hours"] == pytest.approx(8 * sum(record["hours"].values()))
  assert record["fits"] and len(record["programs"]) == len(plan.rows)
  some = planning.plan(config, pit.RECIPE, jax.devices(), PEAK, ROWS, ["references"], compiler())
  assert [*some.steps] == ["references"]
  with pytest.raises(ValueError, match="no stages"):
    planning.plan(config, pit.RECIPE, jax.devices(), PEAK, ROWS, ["another"], compiler())
