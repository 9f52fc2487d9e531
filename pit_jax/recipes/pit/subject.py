"""A finished run of PIT as its experiments see it: its models, and what every system answered."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from pit_jax.evaluate import clock, subject
from pit_jax.improve import improvement, self_refine
from pit_jax.recipes import rlhf
from pit_jax.recipes.pit import criticised, training
from pit_jax.recipes.rlhf import policy_chain
from pit_jax.run import context as contexts
from pit_jax.statistics import metrics

DIRECT = "improver_dpo"
LONGER = "rlhf_longer"
CRITICISED = "pit_critique"
AGAIN = "pit_again"  # after two rounds, without the stop rule
UNCRITICISED = "pit_uncriticised"  # and after two rounds of it:
UNCRITICISED_AGAIN = "pit_uncriticised_again"
LONGER_PAIR = "rlhf_longer_best_of_2"

# Streams of noise beside those of evaluate/subject.py.
ORIGINAL = 1
RESAMPLED = 2
SFT = 3
IMPROVER_SFT = 4
ABLATIONS = 100
SECOND_SAMPLE = 150
ROUNDS = 200
TEMPERATURES = 300
CANDIDATES = 400
REFINEMENTS = 500
NEXT_ROUND = 700
CHOICES = 800
CRITICISMS = 900
PLAIN_ROUNDS = 1000


@dataclasses.dataclass(frozen=True)
class Subject(subject.Subject):
  """A finished run of PIT."""

  chain: training.Models  # all that it trained

  @property
  def policy(self) -> policy_chain.Policy:
    """The models of the policy's chain."""
    return self.chain.policy

  @functools.cached_property
  def original(self) -> list[str]:
    """What the trained policy answered: the draft of every improver."""
    with clock.timed(self.seconds, "original", len(self.suite.questions)):
      return self.suite.answers(self.policy.rl.params, ORIGINAL)

  @functools.cached_property
  def made(self) -> improvement.Rounds:
    """All rounds of the improver on `original`."""
    drafts = self.original
    with clock.timed(self.seconds, "pit", len(drafts)):
      return self.suite.rounds(drafts, self.context.config.evaluation.rounds, ROUNDS)

  @property
  def controls(self) -> list[str]:
    """The second draw of original."""
    return ["policy_resampled"]

  @property
  def absent(self) -> dict[str, str]:
    """The baselines that nobody can play here, and why."""
    form = self.context.config.evaluation.self_refine
    reason = self_refine.absence(self.context.models.inference, form)
    return {"self_refine": reason} if reason else {}

  @functools.cached_property
  def refined(self) -> self_refine.Refinements | None:
    """Self-Refine's rounds on `original`, by the policy, as many as the improver's; or `absent`."""
    if self.absent:
      return None
    c = self.context.config.evaluation
    inference = self.context.models.inference
    form = self_refine.form_of(c.self_refine)
    key = jax.random.fold_in(self.suite.key, REFINEMENTS)
    how = {"rounds": c.rounds, "key": key, "temperature": self.suite.temperature}
    asked = (self.suite.questions, self.original)

    with clock.timed(self.seconds, "self_refine", len(self.original)):
      return self_refine.play(inference, self.policy.rl.params, form, *asked, **how)

  @functools.cached_property
  def systems(self) -> Mapping[str, Sequence[str]]:
    """The answers of every trained system but the ablations, by name."""
    texts = {
      "original": self.original,
      "policy_resampled": self.suite.answers(self.policy.rl.params, RESAMPLED),
      "policy_sft": self.suite.answers(self.policy.sft.params, SFT),
      "improver_sft": self.suite.improved(
        self.chain.improver_sft.params, self.original, IMPROVER_SFT
      ),
      "pit": self.made.texts[1],
    }
    if self.refined:
      texts["self_refine"] = self.refined.texts[1]
    if criticised.is_used(self.context.config):
      texts[CRITICISED] = self.with_critiques
      # A second round, which takes about as many tokens as a critique and a version.
      texts |= {AGAIN: self.made.texts[2]} if len(self.made.texts) > 2 else {}
    if self.chain.uncriticised:
      params = self.chain.uncriticised.params
      texts[UNCRITICISED] = self.suite.improved(params, self.original, PLAIN_ROUNDS)
      texts[UNCRITICISED_AGAIN] = self.suite.improved(params, texts[UNCRITICISED], PLAIN_ROUNDS + 1)

    return texts

  @property
  def with_critiques(self) -> list[str]:
    """One round of the improver on `original`, each draft shown with what the critic says of it."""
    asked = (self.suite.questions, self.original)
    said, _ = criticised.asked(self.context, "held_out_critiques", *asked)
    inference = self.context.models.inference
    shown = criticised.shown(inference.settings, *asked, said)
    how = (jax.random.fold_in(self.suite.key, CRITICISMS), self.suite.temperature)
    return inference.reply(self.chain.improver.params, shown, *how, self.original)

  @functools.cached_property
  def ablated(self) -> Mapping[str, Sequence[str]]:
    """The answers of every ablation, by name; none where they were not trained.

    Beside the policy whose RL was carried on stands the better of two samples of it, of R_P's
    choice: an answer of an improver takes two samples too, its draft and its own.
    """
    trained = self.chain.ablations
    texts = {}
    for stream, (name, system) in enumerate(trained.items(), start=ABLATIONS):
      if name == LONGER:
        texts[name] = self.suite.answers(system.params, stream)
      else:
        texts[name] = self.suite.improved(system.params, self.original, stream)

    if LONGER in texts:
      second = self.suite.answers(trained[LONGER].params, SECOND_SAMPLE)
      texts[LONGER_PAIR] = self.suite.best([texts[LONGER], second])
    return texts

  @property
  def pairs(self) -> list[tuple[str, str]]:
    """Which systems are compared with which; ablations apart."""
    # What original gained over policy_sft is compared that way round, as the gate asks it.
    built_on = [name for name in self.systems if name not in ("original", "policy_sft")]
    pairs = [(name, "original") for name in built_on]
    pairs += [("original", "policy_sft"), ("original", "chosen"), ("pit", "improver_sft")]
    if CRITICISED in self.systems:
      others = ("pit", AGAIN, UNCRITICISED, UNCRITICISED_AGAIN)
      pairs += [(CRITICISED, other) for other in others if other in self.systems]
    return [*pairs, ("pit", "self_refine")] if self.refined else pairs

  @property
  def ablation_pairs(self) -> list[tuple[str, str]]:
    """Every ablation against original, pit against every ablation, and DPO against its start."""
    pairs = [(name, "original") for name in self.ablated] + [("pit", name) for name in self.ablated]
    return [*pairs, (DIRECT, "improver_sft")] if DIRECT in self.ablated else pairs

  @property
  def reward_models(self) -> dict[str, dict]:
    """What is known of each reward model."""
    facts = rlhf.facts_of(self.policy) | subject.facts_of({"R_PIT": self.chain.gap_reward})
    judge = self.suite.judges[0]
    agreement = None  # how often R_PIT has the sign of the gold difference on pairs (y_1, y_0)
    if judge.name == "gold":
      gold = judge.verdicts(self.suite.questions, self.made.texts[1], self.original)
      agreement = metrics.sign_agreement(np.asarray(self.made.gaps[0]), gold.difference)

    facts["R_PIT"]["sign_agreement"] = agreement
    return facts

  @property
  def chains(self) -> dict[str, subject.Chain]:
    """The chains along which samples were kept: the policy's, and the improver's."""
    before = self.chain.improver_sft.params
    improver = subject.Chain(
      stages=[(f"pit_{stage.name}", stage.steps) for stage in self.context.config.curriculum],
      start="improver_sft",
      first=lambda suite, drafts: suite.improved(before, drafts, subject.FRONTIER + 1),
      proxy="R_PIT",
      score=self.chain.gap_rewards["pit"].gaps,
    )

    return rlhf.chains_of(self.context, self.suite, self.policy) | {"improver": improver}


def of_run(context: contexts.Context, models: training.Models) -> Subject:
  """Returns a finished run as its experiments see it."""
  own = {"gap_reward": models.gap_reward, "improver": models.improver.params}
  return Subject(context, subject.suite_of(context, **rlhf.judged(models.policy), **own), models)
