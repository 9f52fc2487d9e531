"""Improvement under principles: what the models are shown, and by which names it is asked for."""

import json

import pytest

from pit_jax.api import runs
from pit_jax.commands import improve
from pit_jax.data import principles
from pit_jax.exchange import export
from pit_jax.rollout import inference

BANK = principles.Bank(
  (
    principles.Principle("concise", "It is short.", "It is long."),
    principles.Principle("polite", "It is kind.", "It is rude."),
  ),
  {},
  default="polite",
)
PROMPTS = ["what is it ?", "the last word ?"]


@pytest.fixture
def asked(monkeypatch):
  """What the models were asked, by who was: the texts before any answer."""
  seen = {"policy": [], "improver": [], "gaps": []}
  watched = {"answer": "policy", "revise": "improver", "gaps": "gaps"}
  for method, who in watched.items():
    whole = getattr(inference.Inference, method)

    def watch(self, params, questions, *columns, whole=whole, who=who):
      seen[who] += questions
      return whole(self, params, questions, *columns)

    monkeypatch.setattr(inference.Inference, method, watch)
  return seen


@pytest.fixture
def with_bank(monkeypatch):
  monkeypatch.setattr(export, "bank", lambda folder: BANK)


def load(place):
  return runs.load(place, mesh=(1, 1, 1), batch_size=2)


@pytest.mark.parametrize(
  ("names", "said"),
  [(["concise", "not:polite"], "It is short. It is rude."), (None, "It is kind."),
   ("not:concise", "It is long.")],
)  # fmt: skip
def test_improver_and_gap_model_see_the_principles_and_the_policy_none(
  tiny_export, with_bank, asked, names, said
):
  load(tiny_export).improve(PROMPTS, principles=names, rounds=1, temperature=0.0)
  shown = [f"Principles: {said}\n{prompt}" for prompt in PROMPTS]
  assert asked["policy"] == PROMPTS and asked["improver"] == shown
  assert {*asked["gaps"]} == {*shown}


def test_scores_and_gaps_are_by_principles(tiny_export, with_bank, asked):
  run = load(tiny_export)
  texts = (["this"], ["that"])
  under = run.gap(PROMPTS[:1], *texts, principles=["concise"])
  shown = BANK.show(PROMPTS[0], BANK.chosen("concise"))
  assert asked["gaps"] == [shown]
  models = export.load(tiny_export, mesh=run.improver.inference.mesh, batch_size=2)
  assert under == models.inference.gaps(models.gap_reward, [shown], *texts)


def test_the_command_names_them(tiny_export, with_bank, asked, tmp_path):
  given, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
  given.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS))
  arguments = [f"--workdir={tiny_export}", f"--input={given}", f"--output={out}", "--mesh=1,1,1"]
  improve.main([*arguments, "--rounds=1", "--batch_size=2", "--principles=not:concise, polite"])
  said = "Principles: It is long. It is kind."
  assert asked["improver"] == [f"{said}\n{prompt}" for prompt in PROMPTS]
  assert [json.loads(line)["prompt"] for line in out.open()] == PROMPTS

  with pytest.raises(SystemExit) as stopped:
    improve.main([*arguments, "--principles=brief"])
  said = "--principles='brief': there is no principle 'brief'; use some of concise, polite"
  assert said in str(stopped.value)


def test_a_run_without_principles_refuses_them(tiny_export, monkeypatch):
  run = load(tiny_export)
  told = "were trained without principles; leave it out, or use a run whose recipe"
  for ask in (
    lambda: run.improve(PROMPTS, principles=["concise"]),
    lambda: run.gap(PROMPTS, PROMPTS, PROMPTS, principles="concise"),
    lambda: run.score(PROMPTS, PROMPTS, principles=["concise"]),
  ):
    with pytest.raises(ValueError) as error:
      ask()
    assert told in str(error.value) and "\n" not in str(error.value)

  def typed(_):
    raise AssertionError("nothing is asked for")

  monkeypatch.setattr("builtins.input", typed)
  with pytest.raises(SystemExit) as stopped:
    improve.main([f"--workdir={tiny_export}", "--mesh=1,1,1", "--principles=concise"])
  assert told in str(stopped.value)


def test_an_export_keeps_its_principles(tiny_export, tmp_path):
  assert export.bank(tiny_export) is None
  models = export.load(tiny_export, mesh=load(tiny_export).improver.inference.mesh, batch_size=2)
  export.save(tmp_path, models.inference, {"policy": models.policy}, bank=BANK)
  assert export.bank(tmp_path) == BANK
