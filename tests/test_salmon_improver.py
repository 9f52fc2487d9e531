"""Recipe `salmon`: gap reward and improver that read principles."""

import json
from unittest import mock

import pytest
import tiny_run
from salmon_run import OTHERS, config, made

import pit_jax
from pit_jax import types
from pit_jax.exchange import export
from pit_jax.improve import improvement
from pit_jax.recipes import running, salmon
from pit_jax.recipes.salmon import banks, page
from pit_jax.stages import rl

TABLES = (
  page.principles, page.conflicts, page.policies, page.steering, page.improved,
  page.improved_steering,
)  # fmt: skip


@pytest.fixture(scope="module")
def improving_run(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("improving") / "run"
  changes = {"salmon__improver": True, "salmon__controls": False, "salmon__others": OTHERS[:1]}
  with tiny_run.unrendered():
    running.run(config(**changes), workdir)
  return workdir


def test_improver_and_gap_reward_are_trained_with_principles_and_exported(improving_run):
  results = json.loads((improving_run / "report" / "results.json").read_text())
  assert [*results["stages"]][-3:] == ["sft_improver", "gap_reward", "improver"]
  lists = [(tuple(row["list"]), row["version"]) for row in results["improved"]]
  whole = ("answer", "working", "greeting", "tone", "closing")
  few = ("greeting", "not:closing")
  versions = ("made", "kept", "anew")
  assert lists == [((), "draft"), *((names, one) for names in (whole, few) for one in versions)]
  for version in ("made", "anew"):
    told = {row["principle"]: row for row in results["improved_steering"]
            if row["version"] == version}  # fmt: skip
    assert told["closing"]["negated"] is not None and told["tone"]["difference"] is not None
  page_of_run = (improving_run / "report" / "report.html").read_text()
  for title in ("Improvement under principles", "What a principle does to versions"):
    assert title in page_of_run

  run = pit_jax.load(improving_run, mesh=(1, 1, 1), batch_size=4)
  assert run.models == ("policy", "reward", "improver", "gap_reward")
  prompts = [row["prompt"] for row in made(improving_run, "labels")[:2]]
  bank = export.bank(improving_run)
  assert bank.default == "answer,working,greeting,tone,closing"
  seen = []
  whole_call = improvement.improve
  watch = lambda models, *given, **how: (  # noqa: E731
    seen.append((given[0], models.shown(given[0]))) or whole_call(models, *given, **how)
  )
  with mock.patch.object(improvement, "improve", watch):
    run.improve(prompts, principles=["tone", "not:closing"], rounds=1)
    run.improve(prompts, rounds=1)
  for (asked, shown), listed in zip(seen, ("tone,not:closing", bank.default), strict=True):
    assert asked == prompts
    assert shown == [bank.show(prompt, bank.chosen(listed)) for prompt in prompts]


def test_an_improver_is_shown_the_same_principles_as_its_reward(improving_run):
  changes = {"salmon__improver": True, "salmon__controls": False, "salmon__others": OTHERS[:1]}
  context = tiny_run.build(config(**changes), improving_run)
  seen = {}
  whole = rl.run

  def watch(context, name, prompts, rewarded, **how):
    seen[name] = (prompts, rewarded)
    return whole(context, name, prompts, rewarded, **how)

  with mock.patch.object(rl, "run", watch):
    salmon.RECIPE.train(context)
  prompts, rewarded = seen["improver"]
  texts = context.models.inference.words(
    types.Responses(tokens=prompts[:].tokens, mask=prompts[:].mask)
  )
  sentences = [each for one in banks.read(config()).principles for each in (one.text, one.negation)]
  assert all(any(sentence in text for sentence in sentences) for text in texts)
  assert [*rewarded] == ["gap"]
  count = len(made(improving_run, "references"))
  assert len(texts) == 4 * count  # as many lists of each prompt as there are passes


def test_seeds_are_pooled_and_drawn(improving_run):
  """Rows stand as they did, with means; what only single seeds have is left out of the tables."""
  results = json.loads((improving_run / "report" / "results.json").read_text())
  alike = {
    name: pool({0: results[name], 1: results[name]}, [0, 1])
    for name, pool in salmon.RECIPE.pooled.items()
  }
  for table in TABLES:
    rows = [[row[0] for row in table(found).rows] for found in ({**results, **alike}, results)]
    assert rows[0] == rows[1] and rows[0]
  assert alike["conditioning"] == {"told_by": results["conditioning"]["told_by"]}
  checks = results["improved"][1]["checks"]
  assert alike["improved"][1]["checks"] == pytest.approx(checks)
