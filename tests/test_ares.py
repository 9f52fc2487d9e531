"""Recipe `ares`: where scores of sentences stand, what is dropped, what arms learn."""

import json
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_run

from pit_jax.data import conversations, padding
from pit_jax.feedback import named, sentence_scores, writers
from pit_jax.recipes import ares, running
from pit_jax.recipes.ares import arms, measures, page, rewards
from pit_jax.rollout import rewards as token_rewards
from pit_jax.stages import rl, sft
from pit_jax.tasks import marking, sentences, synthetic
from pit_jax.types import Prompts, Responses

SMALL = {
  "data__rows": 200, "data__max_prompt_length": 64, "evaluation__prompts": 16, "rl__samples": 2,
  "rl__steps": 4, "correct__steps": 2, "correct__batch_size": 8,
}  # fmt: skip
STAGES = ("sft", "corrected", *arms.ARRANGED, "ares", "ares_twice_rl_1", "ares_twice_1",
          "ares_twice_rl_2", "ares_twice")  # fmt: skip
HABITS = synthetic.writer_named("hasty", first=0.3)


def config(**changes):
  return tiny_run.config("ares", **SMALL | changes)


def writing():
  """Has models write letters of the task, some of which say things twice, where they are asked."""
  whole = writers.model

  def model(name, asking, params):
    def answer(asked, key, temperature, samples, top_p):
      seeds = jax.random.bits(key, (len(asked), samples)).tolist()
      return writers.Written([
        [letter(conversations.said(one.prompt), seed) for seed in own]
        for one, own in zip(asked, seeds, strict=True)
      ])  # fmt: skip

    return writers.Writer(whole(name, asking, params).name, answer)

  return mock.patch.object(writers, "model", model)


def letter(prompt, seed):
  text = synthetic.letter_to(prompt, HABITS, seed)
  return f"{text} {sentences.said(text)[-1]}" if seed % 3 == 0 else text


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A finished run, as small as it comes, whose corrected answers are letters: read it."""
  workdir = tmp_path_factory.mktemp("ares") / "run"
  with writing(), tiny_run.unrendered():
    running.run(config(), workdir)
  return workdir


@pytest.fixture(scope="module")
def results(run):
  return json.loads((run / "report" / "results.json").read_text())


@pytest.fixture(scope="module")
def given(run):
  """What each stage of the run was given, by its name, and what the recipe returns."""
  asked = mock.Mock(side_effect=AssertionError("asked again"))
  with tiny_run.watching(sft, rl) as seen, mock.patch.object(writers.Writer, "write", asked):
    study = ares.RECIPE.train(tiny_run.build(config(), run))  # read back
  return seen, study


def made(workdir, name):
  return [json.loads(line) for line in (workdir / "rows" / f"{name}.jsonl").open()]


def test_every_arm_is_trained_compared_and_told(run, results):
  assert [*results["stages"]] == [*STAGES] == [one.name for one in arms.stages(config())]
  assert {*arms.ABOUT} == {*results["about"]} and {*arms.ABOUT} <= {*results["systems"]}
  pairs = {(row["a"], row["b"]) for row in results["comparisons"]}
  assert {("ares", "corrected"), ("rl_sentences", "rl_sum"), ("ares_twice", "corrected"),
          ("rl_permuted", "sft")} <= pairs  # fmt: skip
  assert results["headline"] == ["ares", "corrected"]
  assert {row["judge"] for row in results["comparisons"]} == {"gold", "even"}
  text = (run / "report" / "report.html").read_text()
  assert "Arms, and their sentences" in text and "Corrections" in text


def test_arms_have_the_same_rollouts_and_as_many_asks(run, given):
  stages, _ = given
  steps = {name: how["steps"] for name, (_, how, _) in stages.items() if "steps" in how}
  assert steps == {**dict.fromkeys(arms.ARRANGED, 4), "ares_twice_rl_1": 2, "ares_twice_rl_2": 2}
  rows = {name: made(run, f"{name}_answers") for name in ("corrected", "ares")}
  assert len(rows["corrected"]) == len(rows["ares"]) + 4 * 8
  halves = [made(run, f"{name}_answers") for name in ("ares_twice_1", "ares_twice")]
  train = [[row["prompt"] for row in own if row["part"] == "rows"] for own in halves]
  assert [*train[0], *train[1]] == [row["prompt"] for row in rows["ares"] if row["part"] == "rows"]
  assert abs(len(train[0]) - len(train[1])) <= 1
  # Several answers to a prompt are different draws.
  several = [row["answer"] for row in rows["corrected"] if row["prompt"] == train[0][0]]
  assert len(several) > 1 and len({*several}) > 1


def test_each_stage_starts_where_the_one_before_it_ended(given):
  stages, study = given
  started = {
    "corrected": "sft", "ares": "rl_sentences", "ares_twice_1": "ares_twice_rl_1",
    "ares_twice": "ares_twice_rl_2",
  }  # fmt: skip
  ends = {name: result.params for name, (_, _, result) in stages.items()}
  for name, before in started.items():
    np.testing.assert_array_equal(
      jax.tree.leaves(stages[name][1]["start"])[0], jax.tree.leaves(ends[before])[0]
    )
  references = {**dict.fromkeys(arms.ARRANGED, "sft"), "ares_twice_rl_1": "sft",
                "ares_twice_rl_2": "ares_twice_1"}  # fmt: skip
  for name, before in references.items():
    leaf = jax.tree.leaves(stages[name][1]["reference"])[0]
    np.testing.assert_array_equal(leaf, jax.tree.leaves(ends[before])[0])
  assert {*study.policies} == {*arms.ABOUT} | {"ares_twice_1"}


def test_what_repeats_goes_first_and_then_the_teacher_corrects(run, results, given):
  stages, _ = given
  told = {row["of"]: row for row in results["corrections"]}
  for name in ("corrected", "ares", "ares_twice"):
    answers, fixed = made(run, f"{name}_answers"), made(run, f"{name}_corrections")
    repeated = changed = 0
    learnt = {"rows": [], "validation": []}
    for row, correction in zip(answers, fixed, strict=True):
      assert row["distinct"] == sentences.distinct(row["answer"])
      repeated += row["distinct"] != row["answer"]
      changed += correction["response"] != row["distinct"]
      q = synthetic.parse_question(row["prompt"])
      assert min(marking.scores(q, sentences.said(correction["response"]))) > 0
      learnt[row["part"]].append((row["prompt"], correction["response"]))
    (fold,), _, _ = stages[name]
    assert [(row.prompt, row.chosen) for row in fold.rows] == learnt["rows"]
    assert [(row.prompt, row.chosen) for row in fold.validation] == learnt["validation"]
    counts = {"answers": len(answers), "repeated": repeated, "changed": changed, "failed": 0}
    assert told[name] == {"of": name, **counts, "kinds": {}} and repeated > 0 < changed


@pytest.fixture(scope="module")
def signals(run):
  """Rewards of one batch of letters, as each arm has them, with what they are of."""
  context = tiny_run.build(config(), run)
  prompts = [row.prompt for row in context.rows.folds["rl"]][:48]
  texts = [letter(prompt, seed) for seed, prompt in enumerate(prompts)]
  tokenizer = context.rows.settings.tokenizer
  ids = [[*tokenizer.encode(f" {text}")[:31], tokenizer.eos_id] for text in texts]
  responses = padding.pad_responses(ids, 32, tokenizer.pad_id)
  teacher = named.build(context, "writers", "teacher")
  shown = Prompts(tokens=responses.tokens, mask=responses.mask)  # which no teacher reads
  found = {
    name: rewards.signal(context, teacher, prompts, arrange, seed=3, steps=2)(
      np.arange(len(prompts)), shown, responses
    )
    for name, arrange in arms.ARRANGED.items()
  }
  return context, teacher, prompts, ids, responses, found


def test_a_score_stands_at_the_last_token_of_its_sentence(signals):
  """By hand, one response after the other, its tokens decoded one by one."""
  context, teacher, prompts, ids, responses, found = signals
  decode = context.rows.settings.tokenizer.decode
  given_rewards = np.asarray(found["rl_sentences"].reward)
  dropped = 0
  for prompt, own, row in zip(prompts, ids, given_rewards, strict=True):
    text = decode(own)
    listed = sentences.said(text)
    request = sentence_scores.request(context.config.ares.score_request, prompt, listed)
    shown = context.rows.settings.formats["policy"].conversations([request])
    reply = teacher.write(shown, jax.random.key(0), 0.0).texts[0][0]
    lines = [line.split(": ") for line in reply.splitlines()]
    scores = [float(score) for _, score in lines]
    if len(scores) != len(listed) or max(scores, default=2) > 1:
      assert np.isnan(row).all()
      dropped += 1
      continue
    wanted = np.zeros(32)
    place = 0
    for number, sentence in enumerate(listed):
      worth = 0.0 if sentence in listed[:number] else scores[number]
      end = text.index(sentence, place) + len(sentence)
      place = end
      token = next(i for i in range(len(own)) if len(decode(own[: i + 1])) >= end)
      wanted[token] += worth - 0.5
    np.testing.assert_allclose(row, wanted, atol=1e-6)
  assert 0 < dropped < 12
  more = found["rl_sentences"].more
  assert float(more["dropped"].sum()) == dropped
  by_kind = sum(float(more[f"dropped_{kind}"].sum()) for kind in sentence_scores.FAILURES)
  assert by_kind == dropped


def test_arms_differ_in_where_rewards_stand_and_not_in_their_sums(signals):
  *_, responses, found = signals
  rows = {name: np.asarray(one.reward) for name, one in found.items()}
  known = ~np.isnan(rows["rl_sentences"]).any(axis=1)
  for one in rows.values():
    np.testing.assert_array_equal(known, ~np.isnan(one).any(axis=1))
  sums = {name: one[known].sum(axis=1) for name, one in rows.items()}
  for one in sums.values():
    np.testing.assert_allclose(one, sums["rl_sentences"], atol=1e-5)
  last = np.asarray(responses.mask).sum(axis=1) - 1
  ends = rows["rl_sum"][np.arange(len(last)), last][known]
  np.testing.assert_allclose(ends, sums["rl_sum"], atol=1e-6)
  assert np.count_nonzero(rows["rl_sum"][known]) <= known.sum()
  moved = (rows["rl_permuted"] != rows["rl_sentences"])[known].any(axis=1)
  assert 0.4 < moved.mean() < 1.0
  values = [sorted(row[row != 0]) for row in rows["rl_permuted"][known]]
  for one, other in zip(values, rows["rl_sentences"][known], strict=True):
    np.testing.assert_allclose(one, sorted(other[other != 0]), atol=1e-6)


def test_a_sum_at_the_end_is_a_score_of_one_sentence():
  """Where a response is one sentence that ends with it, all three arms are the same."""
  for arrange in arms.ARRANGED.values():
    values = [0.5]
    row = rewards.placed(arrange(values, "a.", 0), 0.5, [4], 5)
    np.testing.assert_array_equal(row, [0, 0, 0, 0, 0.5])
  shared = rewards.placed([0.5, -0.25], 0.25, [1, 1], 3)
  np.testing.assert_array_equal(shared, [0, 0.25, 0])
  assert not rewards.placed(None, 1.0, [], 0).size


def test_what_the_teacher_does_not_score_is_dropped_from_learning_and_counted(run, results):
  rows = [json.loads(line) for line in (run / "metrics" / "rl_sentences.jsonl").open()]
  logged = [row for row in rows if "objective/rewards/sentences" in row]
  assert len(logged) == 4
  for row in logged:
    kinds = sum(
      row[f"objective/rewards/sentences_dropped_{kind}"] for kind in sentence_scores.FAILURES
    )
    assert kinds == pytest.approx(row["objective/rewards/sentences_dropped"])
    assert np.isfinite(row["objective/rewards/sentences"]) or kinds == 1.0
    assert np.isfinite(row["objective/score"])
  told = {row["system"]: row for row in results["sentences"]}
  assert {*told} == {*arms.ABOUT}
  for row in told.values():
    assert sum(row[kind] for kind in sentence_scores.FAILURES) == pytest.approx(row["dropped"])


def test_sentences_of_systems_are_told_as_they_are_after_one_pass(run, results, given):
  context = tiny_run.build(config(), run)
  subject = ares.of_run(context, given[1])
  answer = mock.patch.object(writers.Writer, "write_all", autospec=True,
                             side_effect=writers.Writer.write_all)  # fmt: skip
  with answer as asked:
    assert measures.sentences_told(subject)["sentences"] == results["sentences"]
  ((teacher, requests),) = [
    call.args for call in asked.call_args_list if call.args[0].name == "teacher"
  ]
  assert len(requests) == len(arms.ABOUT)
  told = {row["system"]: row for row in results["sentences"]}["ares_twice"]
  texts = subject.systems["ares_twice"]
  listed = [sentences.said(text) for text in texts]
  assert told["sentences"] == pytest.approx(np.mean([len(own) for own in listed]))
  exact = []
  for x, own in zip(subject.suite.questions, listed, strict=True):
    scores = marking.scores(synthetic.parse_question(x), own)
    exact.append(sum(score - 0.5 for score in scores))
  assert told["exact"] == pytest.approx(np.mean(exact))


@pytest.mark.parametrize(("module", "function"), [(ares, "_reinforced"), (ares.corrections, "of")])
def test_a_run_that_ends_between_stages_goes_on_to_the_same(run, tmp_path, module, function):
  whole = getattr(module, function)
  times = iter(range(99))

  def ending(*columns, **how):
    if next(times) == 2:
      raise KeyboardInterrupt
    return whole(*columns, **how)

  with writing():
    with mock.patch.object(module, function, ending), pytest.raises(KeyboardInterrupt):
      running.run(config(), tmp_path, stages_only=True)
    begun = tiny_run.files(tmp_path / "rows")
    running.run(config(), tmp_path, stages_only=True)
  files = tiny_run.files(run / "rows")
  assert begun and tiny_run.files(tmp_path / "rows") == files and begun.items() <= files.items()
  assert last_states(tmp_path) == last_states(run)


def last_states(workdir):
  """The checksums of all arrays of every stage's last checkpoint, optimisers included."""
  found = {}
  for stage in (workdir / "checkpoints").iterdir():
    step = max(int(path.name) for path in stage.iterdir() if path.name.isdigit())
    told = json.loads((stage / str(step) / "record" / "metadata").read_text())
    found[stage.name] = (step, told["checksums"], told["arrays"])
  return found


def row(a, b, delta, ci95):
  counts = {"n": 1536, "win": 50 + delta / 2, "lose": 50 - delta / 2, "tie": 0.0}
  return {"a": a, "b": b, "judge": "gold", "delta": delta, "ci95": ci95} | counts


@pytest.mark.parametrize(("credit", "permuted"), [(9.0, 0.0), (-9.0, 30.0)])
def test_claims_are_of_credit_alternation_and_controls(credit, permuted):
  rows = [
    row("ares", "sft", 40.0, (35.0, 45.0)),
    row("rl_sentences", "rl_sum", credit, (credit - 4, credit + 4)),
    row("rl_sentences", "sft", 30.0, (25.0, 35.0)),
    row("rl_permuted", "sft", permuted, (permuted - 4, permuted + 4)),
    row("ares", "corrected", 20.0, (15.0, 25.0)),
    row("ares", "rl_sentences", 1.0, (-3.0, 5.0)),
    row("ares_twice", "corrected", 22.0, (17.0, 27.0)),
    row("ares_twice", "ares", 2.0, (-2.0, 6.0)),
  ]
  found, remark = page.said({"comparisons": rows, "systems": {}, "recipe": "ares"})
  here, opposite, nothing = "for these models", "the opposite for these models", "not shown"
  turned = here if credit > 0 else opposite
  assert [claim.outcome for claim in found] == [here, turned, turned, here, nothing, here, nothing]
  assert "corrected" in remark


def test_both_chains_are_drawn(results):
  columns = page.pipeline(results)
  assert [len(column.chains) for column in columns] == [2] * 5
  assert "rl_sum, rl_permuted" in str(columns[1].chains[1])


def test_a_response_of_unknown_reward_has_no_tokens_left():
  mask = jnp.array([[True, True, False], [True, True, True]])
  responses = Responses(tokens=jnp.ones((2, 3), jnp.int32), mask=mask)
  given_rewards = jnp.array([[0.5, jnp.nan, 0.0], [0.0, 0.25, 1.0]])
  logprobs = jnp.full((2, 3), -1.0)
  left, kept, total = token_rewards.without_unknown(responses, logprobs, given_rewards)
  np.testing.assert_array_equal(left.mask, [[False] * 3, [True] * 3])
  np.testing.assert_array_equal(kept, [[0.0] * 3, [-1.0] * 3])
  np.testing.assert_array_equal(total, [[0.0] * 3, [0.0, 0.25, 1.0]])
  assert (left.tokens == responses.tokens).all()
