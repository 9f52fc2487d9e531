"""Writers and raters by name: who writes, from where, and what is said where nobody can."""

import json

import jax
import judge_server
import ml_collections
import numpy as np
import pytest
import tiny_models
import tiny_run
from test_endpoint import KEY, SETTINGS

from pit_jax.data import conversations, prompt_formats, template, text
from pit_jax.feedback import endpoint, judges, named, writers
from pit_jax.run import origin
from pit_jax.tasks import synthetic

POLICY = prompt_formats.Format("policy", plain="{prompt}")
CRITIC = prompt_formats.Format(
  "critic",
  ("answer",),
  turns=(
    prompt_formats.Text("assistant", "answer"),
    conversations.Turn("user", "What is weak?"),
  ),
)
TALK = (
  conversations.Turn("user", "the rent ?"),
  conversations.Turn("assistant", "4"),
  conversations.Turn("user", "why ?"),
)


@pytest.fixture(scope="module")
def asking(tmp_path_factory):
  return tiny_models.inference_of(tmp_path_factory.mktemp("words"))


@pytest.fixture
def context_of(asking, tmp_path):
  """Returns a run of one section `feedback`."""

  def made(**parts):
    config = tiny_run.config()
    with config.unlocked():
      config.feedback = ml_collections.ConfigDict(parts)
    context = tiny_run.pretended(asking)
    context.config, context.workdir = config, tmp_path
    return context

  return made


class Echo(judge_server.Handler):
  """Says what was asked and how often, after some thought."""

  def behave(self, how, body):
    if how.isdigit():
      self.send(int(how), json.dumps({"error": {"message": "no"}}))
      return
    with self.server.lock:
      count = self.server.asked.count(body["messages"][0]["content"])
    said = "" if how == "null" else f"{body['messages'][-1]['content']} #{count}"
    message = {"role": "assistant", "content": f"<think>hm</think>{said}"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    self.send(200, json.dumps({"choices": [choice], "usage": {"total_tokens": 7}}))


@pytest.fixture
def server(monkeypatch):
  monkeypatch.setenv(endpoint.KEY, KEY)
  monkeypatch.delenv(endpoint.ADDRESS, raising=False)
  with judge_server.serving() as running_server:
    running_server.RequestHandlerClass = Echo
    yield running_server


def test_a_model_of_this_run_writes_what_inference_says(asking, context_of):
  params = tiny_models.models_of(asking)["policy"]
  sections = {"self": {"kind": "model", "model": "policy"}}
  writer = named.build(context_of(writers=sections), "writers", "self", {"policy": params})
  questions, key = ["what is it ?", "the first", "a word"], jax.random.key(3)
  asked = asking.settings.formats["policy"].conversations(questions)
  one = writer.write(asked, key, 1.0)
  assert one.texts == [[text] for text in asking.answer(params, questions, key, 1.0)]
  three = writer.write(asked, key, 1.0, samples=3)
  assert [len(texts) for texts in three.texts] == [3, 3, 3] and not three.failures
  assert len({text for texts in three.texts for text in texts}) > 3
  greedy = writer.write(asked, key, 0, samples=2)
  assert all(first == second for first, second in greedy.texts)
  assert writer.write([], key, 1.0) == writers.Written([])
  with pytest.raises(ValueError, match="samples=0; use 1 or more"):
    writer.write(asked, key, 1.0, samples=0)


def test_a_model_in_a_directory_writes_in_its_own_tokens(context_of):
  place = str(origin.EMBEDDED)
  section = {"kind": "directory", "directory": place, "max_tokens": 12, "max_prompt_tokens": 64}
  context = context_of(writers={"base": section, "none": section | {"directory": "no/where"}})
  rows = synthetic.preferences(4, seed=0)
  asked = POLICY.conversations([row["prompt"] for row in rows])
  asked = [one._replace(format=template.Template().formats["policy"]) for one in asked]
  made = named.build(context, "writers", "base").write(asked, jax.random.key(0), 0, samples=2)
  words = text.load_tokenizer(origin.EMBEDDED)
  # Letters of the task, of which an untrained model writes none.
  openings = {row[name].split()[0] for row in rows for name in ("chosen", "rejected")}
  for first, second in made.texts:
    assert first == second and first.split()[0] in openings
    assert len(words.encode(" " + first)) <= 12
  with pytest.raises(ValueError, match="feedback.writers.none.directory"):
    named.build(context, "writers", "none")


def test_an_endpoint_is_sent_all_turns_and_paid_once(server, tmp_path):
  settings = endpoint.Settings(base_url=server.url, **SETTINGS)
  path, key = tmp_path / "paid.sqlite", jax.random.key(0)
  asked = [*POLICY.conversations(["so", TALK]), *CRITIC.conversations([TALK], ["nothing"])]
  writer = writers.behind_endpoint("teacher", settings, path)
  made = writer.write(asked, key, 0.0, samples=2)
  # All samples are asked at once, so that any may come first.
  assert [text[:-1] for text in made.texts[0]] == ["so #"] * 2
  assert sorted(text[:-3] for text in made.texts[1]) == ["why ?"] * 2
  assert sorted(text[:-3] for text in made.texts[2]) == ["What is weak?"] * 2
  sent = [body["messages"] for body in server.bodies]
  spelled = [{"role": role, "content": content} for role, content in TALK]
  critic = [
    *spelled,
    {"role": "assistant", "content": "nothing"},
    {"role": "user", "content": "What is weak?"},
  ]
  for expected in ([{"role": "user", "content": "so"}], spelled, critic):
    assert sent.count(expected) == 2
  again = writers.behind_endpoint("teacher", settings, path)
  assert again.write(asked, key, 0.0, samples=2) == made and len(server.asked) == 6
  # Another key, another sample or another temperature is another question.
  assert again.write(asked[:1], jax.random.key(1), 0.0).texts == [["so #3"]]
  assert again.write(asked[:1], key, 0.0, samples=3).texts == [[*made.texts[0], "so #4"]]
  assert again.write(asked[:1], key, 0.5).texts[0][0].startswith("so #")
  assert server.bodies[-1]["temperature"] == 0.5


def test_what_an_endpoint_does_not_answer_is_named(server, tmp_path):
  settings = endpoint.Settings(base_url=server.url, **SETTINGS)
  writer = writers.behind_endpoint("teacher", settings, tmp_path / "paid.sqlite")
  asked = POLICY.conversations(["so", "not {400!}", "empty {null!}"])
  made = writer.write(asked, jax.random.key(0), 0.0)
  assert made.texts == [["so #1"], [None], [None]]
  assert made.failures == {1: "refused (400)", 2: "nothing was written"}


def test_samples_of_a_model_may_be_cut(asking, context_of):
  """The most likely tokens alone: with hardly any probability there is one way to go on."""
  params = tiny_models.models_of(asking)["policy"]
  writer = writers.model("self", asking, params)
  asked = POLICY.conversations(["so"])
  greedy = writer.write(asked, jax.random.key(0), 0.0).texts[0] * 4
  assert writer.write(asked, jax.random.key(1), 1.0, samples=4, top_p=1e-6).texts == [greedy]
  assert len({*writer.write(asked, jax.random.key(1), 1.0, samples=4, top_p=1.0).texts[0]}) > 1
  for top_p in (0, -0.5, 1.5, float("nan")):
    with pytest.raises(ValueError, match=f"top_p={top_p}; use more than 0 and at most 1"):
      writer.write(asked, jax.random.key(0), 1.0, top_p=top_p)


def test_a_writer_of_the_embedded_task(context_of):
  sections = {
    "weak": {"kind": "grammar", "writer": "hasty"},
    "other": {"kind": "grammar", "writer": "hasty", "seed": 1},
    "mixed": {"kind": "grammar", "writer": "hasty", "works": 1, "first": 1.0, "calm": 0.0},
  }
  context = context_of(writers=sections)
  named.check(context.config)
  made = {name: named.build(context, "writers", name) for name in sections}
  prompts = [row["prompt"] for row in synthetic.preferences(30, seed=0)]
  asked = POLICY.conversations(prompts)
  key = jax.random.key(0)
  letters = {name: writer.write(asked, key, 1.0, samples=2) for name, writer in made.items()}
  # Nothing but the sections decides, and a sample is the same however many there are.
  assert made["weak"].write(asked, jax.random.key(1), 0) == writers.Written(
    [texts[:1] for texts in letters["weak"].texts]
  )
  assert letters["weak"] != letters["other"] and not letters["weak"].failures
  assert sum(one != other for one, other in letters["weak"].texts) > 20
  for x, texts in zip(prompts, letters["mixed"].texts, strict=True):
    for text_of in texts:
      passed = synthetic.checks(x, text_of)
      assert passed["answer"] and passed["working"] and not passed["tone"]
      assert text_of.index("The calls:") < 12
  with pytest.raises(ValueError, match="not a question of the embedded task: 'so'"):
    made["weak"].write(POLICY.conversations(["so"]), key, 1.0)


def longest(questions, answers):
  return [len(answer) for answer in answers]


def test_raters_by_name(asking, context_of, server):
  models = tiny_models.models_of(asking)
  sections = {
    "truth": {"kind": "gold"},
    "R": {"kind": "reward_model", "model": "reward"},
    "theirs": {"kind": "reward_model", "model": "published"},
    "gap": {"kind": "gap_model", "model": "gap_reward"},
    "long": {"kind": "function", "function": f"{__name__}:longest", "tie": 1.5},
    "other": {"kind": "language_model", "model": "some-model", "base_url": server.url},
    "critic": {"kind": "critic", "critic": "weak", "noise": 0, "per_character": -1, "seed": 2},
  }
  context = context_of(raters=sections)
  named.check(context.config)
  models["published"] = lambda questions, answers: np.array([2.0, 3.0])
  made = {name: named.build(context, "raters", name, models) for name in sections}
  assert [judge.name for judge in made.values()] == [*sections]
  assert all(isinstance(judge, judges.Judge) for judge in made.values())
  rows = ["what is it ?", "a word"], ["it is the", "the first"], ["this , not", "a"]
  np.testing.assert_allclose(
    made["R"].score(*rows[:2]), asking.rate(models["reward"], *rows[:2]), rtol=1e-6
  )
  assert made["theirs"].score(*rows[:2]).tolist() == [2.0, 3.0]
  both = [asking.gaps(models["gap_reward"], rows[0], *pair) for pair in (rows[1:], rows[:0:-1])]
  np.testing.assert_allclose(
    made["gap"].verdicts(*rows).difference, (both[0] - both[1]) / 2, rtol=1e-4, atol=1e-6
  )
  assert made["long"].outcomes(made["long"].verdicts(*rows)) == ["tie", "win"]
  letters = ["Hi Kim, it is Oak.", "Hi, it is Oak."]
  x = synthetic.preferences(1, seed=0)[0]["prompt"]
  seen = made["critic"].verdicts([x], *([letter] for letter in letters))
  manners = [synthetic.checks(x, letter)["greeting"] for letter in letters]
  assert seen.difference.tolist() == [manners[0] - manners[1] - 4.0]
  assert seen.orders.tolist() == [seen.difference.tolist() * 2]
  assert made["critic"].score is None
  server.RequestHandlerClass = judge_server.Handler
  said = made["other"].verdicts(["q", "q"], ["it is 5", "it is 1"], ["it is 3", "it is 2"])
  assert said.difference.tolist() == [1.0, -1.0]
  assert said.orders.tolist() == [[1.0, 1.0], [-1.0, -1.0]]


def test_what_is_printed_of_a_field_is_what_its_kind_may_have(context_of):
  sections = {
    "f": {"kind": "function", "function": f"{__name__}:longest", "tie": 1.5},
    "m": {"kind": "language_model", "model": "m", "tie": 0.5},
  }
  config = context_of(raters=sections).config
  assert named.told("feedback.raters.f.tie", config) == (
    "tie of the rater f",
    "0 or more, and finite",
  )
  assert named.told("feedback.raters.m.tie", config)[1] == "0 or more and less than 1"


def test_who_is_not_there_is_named_with_those_who_are(context_of):
  sections = {"self": {"kind": "model", "model": "policy"}, "R": {"kind": "model", "model": "x"}}
  context = context_of(writers=sections)
  with pytest.raises(ValueError, match="feedback.writers has no 'me'; there are: R, self"):
    named.build(context, "writers", "me")
  with pytest.raises(ValueError, match="feedback.raters has no 'me'; there are: none"):
    named.build(context, "raters", "me")
  with pytest.raises(ValueError, match="R.model='x'; the models here are: policy"):
    named.build(context, "writers", "R", {"policy": {}})
