"""The smoke sizes of recipes that learn from endpoints, by the commands of their configurations.

Real instructions are asked where their file is there; some of the teachers' replies are broken.
"""

import collections
import importlib
import json
import pathlib
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import chat_teacher
import measured
import published
import pytest
import real_data
import smollm2
import test_ares_chat
import test_cot_chat
import test_examples
import test_instructors_smollm2
import test_multicritique_chat
import test_report
import test_srt_chat

from pit_jax.data import conversations, critiques
from pit_jax.feedback import endpoint, exercises, transcripts
from pit_jax.recipes import recipe

pytestmark = pytest.mark.smoke

ROOT = pathlib.Path(__file__).resolve().parent.parent
SIZE = "smollm2_135m_smoke"
ADDRESS = "http://localhost:8000/v1"  # of the commands
# Variables by which tests compile less; whoever types the command has none of them.
CHEAPER = ("JAX_", "XLA_", "OMP_")

Results = Mapping[str, Any]


class Script(NamedTuple):
  """What a recipe learns from: rows, and a teacher some of whose replies are broken."""

  reply: chat_teacher.Reply
  rows: Callable[[], list[dict]]
  # (results, workdir) → failures as the results count them, and as the script has them.
  failures: Callable[[Results, pathlib.Path], tuple[dict, dict]]
  flags: tuple[str, ...] = ()  # beside those of the command
  # Whether it is started again, which trains nothing and evaluates anew: for minutes, in most.
  is_started_again: bool = False


def instructions() -> list[dict]:
  """Returns AlpacaEval's instructions; where they are not there, prompts of another test."""
  made = [{"prompt": prompt, "chosen": "Gladly: take your time, and taste it.", "rejected": "no"}
          for prompt in test_multicritique_chat.PROMPTS]  # fmt: skip
  return real_data.instructions(160, longest=220) or made


def arithmetic() -> list[dict]:
  """Returns sums, of which SmolLM2 knows some, and products, of which it knows none."""
  ask = test_instructors_smollm2
  sums = [ask.ASKED.format(a, "+", b) for a in range(1, 8) for b in range(a + 1, 9)]
  answers = {question: str(ask.worth(question)) for question in [*sums, *ask.PRODUCTS]}
  return chat_teacher.problems(answers)


def of_ares(results: Results, run: pathlib.Path) -> tuple[dict, dict]:
  """Counts corrections that did not come, by stage."""
  told = {row["of"]: row["failed"] for row in results["corrections"]}
  asked = {stage: [row["prompt"] for row in chat_teacher.made(run, f"{stage}_corrections")]
           for stage in told}  # fmt: skip
  lost = {stage: [test_ares_chat.reply([prompt.strip()], "") for prompt in prompts].count(None)
          for stage, prompts in asked.items()}  # fmt: skip
  return told, lost


def of_cot(results: Results, run: pathlib.Path) -> tuple[dict, dict]:
  """Counts rationales that are wrong or did not come."""
  told = next(row for row in results["rationales"] if row["of"] == "teacher")
  prompts = [row["prompt"] for row in chat_teacher.made(run, "short_answers")]
  fates = collections.Counter(map(test_cot_chat.fate, prompts))
  wrong = fates[test_cot_chat.WRONG] + fates[test_cot_chat.SILENT]
  lost = {"wrong": wrong, "failed": fates[test_cot_chat.LOST]}
  return {kind: told[kind] for kind in lost}, lost


def of_instructors(results: Results, run: pathlib.Path) -> tuple[dict, dict]:
  """Counts replies without an exercise, by arm."""
  told = {row["arm"]: row["outcomes"].get(exercises.NO_EXERCISE, 0) for row in results["lessons"]}
  asked = {arm: [row["prompt"][-1]["content"] for row in chat_teacher.made(run, f"{arm}_1_replies")]
           for arm in told}  # fmt: skip
  replies = {arm: [test_instructors_smollm2.reply([request], "") for request in requests]
             for arm, requests in asked.items()}  # fmt: skip
  return told, {arm: said.count(test_instructors_smollm2.UNSURE) for arm, said in replies.items()}


def of_multicritique(results: Results, run: pathlib.Path) -> tuple[dict, dict]:
  """Counts what critics break of the drafts that are taught, by critic and kind."""
  kinds = {row["system"]: row["kinds"] for row in results["criticism"]}
  told = {}
  lost = {}
  for critic in test_multicritique_chat.CRITICS:
    some = kinds[f"taught_{critic}"].items()
    told |= {f"{critic}: {kind}": count for kind, count in some if count}
    drafts = [row["draft"] for row in chat_teacher.made(run, f"tuning_critiques_of_{critic}")]
    of = [kind for draft in drafts for kind in test_multicritique_chat.lost(draft, critic)]
    lost |= collections.Counter(f"{critic}: {kind}" for kind in of)
  return told, lost


def of_srt(results: Results, run: pathlib.Path) -> tuple[dict, dict]:
  """Counts critiques without a score."""
  told = next(row["kinds"] for row in results["critics"] if row["system"] == "teacher")
  prompts = [row["prompt"] for row in chat_teacher.made(run, "critiques")]
  return told, {critiques.NO_SCORE: sum(map(test_srt_chat.forgets, prompts))}


SCRIPTS = {
  "ares": Script(test_ares_chat.reply, instructions, of_ares, ("ares.most_failed=0.5",)),
  "cot": Script(
    test_cot_chat.reply,
    lambda: chat_teacher.problems(test_cot_chat.ANSWERS),
    of_cot,
    ("cot.most_failed=0.5",),
  ),
  "instructors": Script(
    test_instructors_smollm2.reply, arithmetic, of_instructors, is_started_again=True
  ),
  "multicritique": Script(
    test_multicritique_chat.reply,
    instructions,
    of_multicritique,
    # By the names of its models the script tells who is asked.
    (
      "multicritique.most_failed=0.5",
      *(
        f"feedback.writers.{name}.model={name}"
        for name in (*test_multicritique_chat.CRITICS, "meta")
      ),
    ),
  ),
  "srt": Script(test_srt_chat.reply, instructions, of_srt, ("srt.most_failed=0.5",)),
}


def command(name: str, url: str) -> list[str]:
  """Returns the command of a configuration for its chat model, of the smoke size."""
  said = importlib.import_module(f"pit_jax.configs.{name}").__doc__.replace("\\\n", " ")
  form = rf"^python (launch/train\.py --config=configs/{name}\.py:)smollm2_135m (.*)$"
  ((begin, rest),) = re.findall(form, said, re.M)
  words = shlex.split(f"{begin}{SIZE} {rest}".replace(ADDRESS, url))
  return [sys.executable, *words, *(f"--config.{flag}" for flag in SCRIPTS[name].flags)]


def prepare(folder: pathlib.Path, name: str) -> None:
  """Puts into a folder what the command of a configuration names."""
  for part in ("launch", "configs"):
    (folder / part).symlink_to(ROOT / part)
  (folder / "models").mkdir()
  (folder / "models" / "smollm2").symlink_to(smollm2.directory())
  published.foreign(folder / "models" / "judge")
  (source,) = re.findall(r"--config\.data\.source=jsonl:(\S+)", " ".join(command(name, ADDRESS)))
  chat_teacher.source(folder, SCRIPTS[name].rows(), source)


def environment() -> dict[str, str]:
  """Returns that of somebody who has installed the library, with a key."""
  known = test_examples.environment().items()
  kept = {name: value for name, value in known if not name.startswith(CHEAPER)}
  return kept | {"JAX_PLATFORMS": "cpu", endpoint.KEY: "none"}


def check_requests(bodies: list[dict], run: pathlib.Path) -> None:
  """Checks that every request was counted, and that each brought a reply that was not there."""
  asked = collections.Counter()
  for body in bodies:
    turns = tuple(conversations.Turn(**message) for message in body["messages"])
    if turns[0].content != endpoint.PROBE:
      asked[body["model"], conversations.write(turns)] += 1
  with transcripts.opened(run / "judge" / "transcripts.sqlite") as kept:
    rows = kept.connection.execute("SELECT settings, prompt FROM transcripts").fetchall()
    (spent,) = kept.connection.execute("SELECT SUM(requests) FROM spending").fetchone()
  replies = collections.Counter(
    (json.loads(settings)["model"], prompt) for settings, prompt in rows
  )
  assert spent == len(bodies)
  assert asked.keys() == replies.keys()
  assert asked <= replies  # the reply to one request may be several samples'


def check_report(name: str, run: pathlib.Path) -> Results:
  """Checks that the report has all that the recipe plans and claims, and returns its results."""
  results = json.loads((run / "report" / "results.json").read_text())
  method = recipe.named(name)
  config = importlib.import_module(f"pit_jax.configs.{name}").get_config(SIZE)
  assert {*results["stages"]} == {stage.name for stage in method.stages(config)}
  assert tuple(results["headline"]) in {(row["a"], row["b"]) for row in results["comparisons"]}
  claims, remark = method.page.claims(results)
  page = test_report.Page((run / "report" / "report.html").read_text(encoding="utf-8"))
  assert claims and remark and remark in page.text
  return results


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_smoke_size_runs_to_its_report(name, tmp_path, record_property):
  script = SCRIPTS[name]
  prepare(tmp_path, name)
  where = {"cwd": tmp_path, "env": environment()}
  with chat_teacher.replying(script.reply) as server:
    words = command(name, server.url)
    run = tmp_path / next(word for word in words if word.startswith("--workdir=")).partition("=")[2]
    took = measured.run(words, tmp_path / "first.txt", **where)
    record_property("took", f"{name}: {took}")
    check_requests(server.bodies, run)
    results = check_report(name, run)
    told, lost = script.failures(results, run)
    assert told == lost and any(lost.values())

    if script.is_started_again:
      asked = len(server.bodies)
      took = measured.run(words, tmp_path / "again.txt", **where)
      record_property("took", f"{name}, started again: {took}")
      assert len(server.bodies) == asked
      assert check_report(name, run)["comparisons"] == results["comparisons"]
