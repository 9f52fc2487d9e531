"""Chat models, a real one among them, learn critiques in units of critics behind an endpoint."""

import collections
import math
import re

import chat_teacher
import jax
import numpy as np
import published
import pytest
import tiny_run
from test_endpoint import KEY

from pit_jax.data import critiques, units
from pit_jax.feedback import endpoint, writers
from pit_jax.recipes import multicritique
from pit_jax.recipes.multicritique import arms
from pit_jax.stages import feedback

THINGS = ("tea", "rice", "soup", "bread", "jam", "a cake", "a salad", "an omelette", "a pie")
ASKED = ("How do I make {}?", "Why do people like {}?", "Describe {} in one sentence.",
         "What goes well with {}?", "Who should not have {}?", "When did you last have {}?",
         "How do I keep {} for a day?", "What can go wrong with {}?")  # fmt: skip
PROMPTS = [asked.format(thing) for asked in ASKED for thing in THINGS]
CRITICS = ("first", "second")
LINE = "Place: {}. Flaw: {}. Severity: {}. Change: {}"
# What a critic may break, and as what it is counted.
NOTHING, PROSE, UNBOUNDED, WORDED, BARE = "nothing", "prose", "unbounded", "worded", "bare"
LOST = {NOTHING: writers.NOTHING, PROSE: critiques.NO_FORM, UNBOUNDED: units.OUT_OF_RANGE,
        WORDED: units.NO_NUMBER, BARE: units.NO_SEVERITY}  # fmt: skip
FATES = (*LOST, *("well",) * 8)


def named(draft, critic):
  """Returns the flaws that a critic finds, {place: severity}: the second one is blind to ends."""
  words = re.findall(r"[A-Za-z]+", draft)
  places = words[:1] + (words[-1:] if critic == "first" else words[1:2])
  return {place: 1 + chat_teacher.drawn(f"{critic}{place}", 5) for place in places}


def unit(place, severity):
  return units.Unit(place, f"{place} is vague", severity, f"say more than {place}")


def criticised(draft, critic):
  """Returns a critic's reply, in the Markdown that models like, and the units that it holds."""
  found = [unit(*one) for one in named(draft, critic).items()]
  if not found:
    return "**No flaws.**", ()
  lines = [LINE.format(one.place, one.flaw, one.severity, one.suggestion) for one in found]
  lines = [f"{number}. **{line[:6]}**{line[6:]}" for number, line in enumerate(lines, start=1)]
  broken = {
    NOTHING: None,
    PROSE: "It is a nice reply.",
    UNBOUNDED: LINE.format("all", "it is", 9, "this"),
    WORDED: LINE.format("all", "it is", "high", "this"),
    BARE: "Place: all. Flaw: it is.",
  }
  how = FATES[chat_teacher.drawn(f"{critic}{draft}", len(FATES))]
  if how in (NOTHING, PROSE):
    return broken[how], ()
  return "\n".join([*lines, *([broken[how]] if how in broken else [])]), tuple(found)


def lost(draft, critic):
  """Returns what is counted of a critic's reply about a draft."""
  how = FATES[chat_teacher.drawn(f"{critic}{draft}", len(FATES))]
  return [LOST[how]] if named(draft, critic) and how in LOST else []


def grade(line):
  """Returns the grade of a unit; None: the reply is none."""
  return (None, 2, 6, 7, 5)[chat_teacher.drawn(line, 5)]


def reply(contents, model):
  """Returns what a critic, the meta-critic or a reviser says, by how far the conversation goes."""
  if model == "meta":
    score = grade(contents[3])
    return "I cannot say." if score is None else f"**Quality:** {score}/7"
  if len(contents) == 3:
    return criticised(contents[1], model)[0]
  return f"{contents[0]} {contents[3][::7]}" if chat_teacher.drawn(contents[3], 7) else None


@pytest.fixture(params=chat_teacher.MODELS)
def configured(request, tmp_path):
  """Makes the configuration of a run of a chat model, of a server's address."""
  rows = [{"prompt": prompt, "chosen": "Gladly: take your time, and taste it.", "rejected": "no"}
          for prompt in PROMPTS]  # fmt: skip
  source = chat_teacher.source(tmp_path, rows)
  model = str(chat_teacher.model(request.param, tmp_path))
  judge = str(published.foreign(tmp_path / "judge"))

  def make(url):
    addressed = {}
    for name in (*CRITICS, "meta"):
      addressed |= {f"feedback__writers__{name}__base_url": url}
      addressed |= {f"feedback__writers__{name}__model": name}
    jobs = ("reward", "tuning", "critic_reward")
    short = {f"{job}__{key}": value for job in jobs
             for key, value in {"steps": 2, "batch_size": 4}.items()}  # fmt: skip
    return tiny_run.config(
      "multicritique", "smollm2_135m_smoke", model__base=model, model__lora__rank=4,
      data__source=source, data__rows=len(rows), data__held_out=0.12,
      data__max_prompt_length=96, data__max_response_length=32, units__max_tokens=32,
      data__length_buckets=False,
      rl__steps=2, rl__batch_size=4, multicritique__most_failed=0.5,
      evaluation__reward_model=judge, **short, **addressed,
    )  # fmt: skip

  return make


def merged(draft, classed):
  """Returns the accepted units of both critics by place: its severity is their mean."""
  severities = collections.defaultdict(list)
  for one, score in classed:
    if score is not None and score >= 4:
      severities[one.place.lower()].append(one.severity)
  return {place: round(sum(some) / len(some)) for place, some in severities.items()}


@pytest.mark.filterwarnings("ignore")
def test_a_chat_model_learns_to_criticise_in_units(configured, tmp_path, monkeypatch):
  monkeypatch.setenv(endpoint.KEY, KEY)
  with chat_teacher.replying(reply) as server:
    config = configured(server.url)
    context = tiny_run.build(config, tmp_path / "run")
    study = multicritique.RECIPE.train(context)
    asked = chat_teacher.within_ceilings(context, server.bodies)
    again = multicritique.RECIPE.train(tiny_run.build(config, tmp_path / "run"))
    assert len(server.bodies) == asked, "who was taught reads replies back"

  form = units.form_of(config.units)
  for found in (study.taught, study.compared):
    for critic, reviews in zip(CRITICS, found.reviews, strict=True):
      rows = [row for part in feedback.PARTS for row in reviews.parts[part]]
      assert [row.listed.units for row in rows] == [
        criticised(row.draft, critic)[1] for row in rows
      ]
      kinds = collections.Counter(kind for row in rows for kind in lost(row.draft, critic))
      assert {kind: count for kind, count in reviews.failures.items() if count} == kinds
    for part in feedback.PARTS:
      whole = found.units(arms.MERGED, part, CRITICS)
      drafts = [row.draft for row in found.reviews[0].parts[part]]
      for draft, own in zip(drafts, whole, strict=True):
        said = [one for critic in CRITICS for one in criticised(draft, critic)[1]]
        classed = [(one, grade(form.line(one))) for one in said]
        assert {one.at: one.severity for one in own} == merged(draft, classed)
    graded = chat_teacher.made(tmp_path / "run", found.classes.made.name.removeprefix("rows/"))
    silent = [row for row in graded if grade(row["unit"]) is None]
    assert sum(found.classes.failures.values()) == len(silent) > 0
  every = [kind for one in (*study.taught.reviews, *study.compared.reviews)
           for kind, count in one.failures.items() if count]  # fmt: skip
  assert {*every} == {*LOST.values()}

  pairs = study.paired.fold
  kept = study.paired.of(arms.MARV)
  assert 0 < len(kept.rows) < len(pairs.rows)
  made = chat_teacher.made(tmp_path / "run", "revisions")
  assert len(made) == len(pairs.rows) + len(pairs.validation)
  revised = [text for row in made for own in row["revisions"].values() for some in own
             for text in some]  # fmt: skip
  assert study.paired.failures[arms.MARV] == {writers.NOTHING: revised.count(None)}
  assert [*study.critics] == [
    "critic_merged", "critic_union", "critic_rl_marv", "critic_rl_all", "critic_rl_random",
  ]  # fmt: skip
  for name, critic in study.critics.items():
    jax.tree.map(np.testing.assert_array_equal, critic.params, again.critics[name].params)
  losses = chat_teacher.losses(tmp_path / "run")
  assert {*losses} >= {*study.critics, "reward"}
  assert all(map(math.isfinite, [loss for some in losses.values() for loss in some]))
