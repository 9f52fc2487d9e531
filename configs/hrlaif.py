"""Hybrid labels (arXiv 2403.08309): verified, rated or rewritten, by the class of the prompt.

python launch/train.py --config=configs/hrlaif.py:tiny --workdir=runs/hrlaif

A policy is fine-tuned and sampled. One arm's reward model learns from a basic labeller alone,
others' from hybrid labels: of verifiers, of the basic labeller, and of a rewriter of harmful
answers. RL maximises each.
"""

import ml_collections

from pit_jax.configs import common


def get_config(size: str = "tiny") -> ml_collections.ConfigDict:
  """Returns the configuration of recipe `hrlaif`."""
  config = common.get_config(size)
  config.recipe = "hrlaif"  # the method: a recipe's name, or the path of a file that declares one
  config.data.source = "synthetic:classes"
  config.sft = common.sft(size)
  config.reward = common.reward(size)
  config.rl = common.rl(config, size)
  config.hrlaif = _study()
  config.feedback = _embedded_feedback()
  config.evaluation.judges = ("acceptable", "brief_again")
  if size == "tiny":
    config.data.rows = 4_500
    config.data.held_out = 0.15
    config.sft.batch_size = 16
    config.sft.epochs = 2.0
    config.rl.steps = 20  # of five arms, in the time that a tiny size may take
    config.evaluation.prompts = 600
  return config.lock()


def _study() -> ml_collections.ConfigDict:
  study = ml_collections.ConfigDict()
  study.author = "author"  # of `feedback.writers`, whose answers are imitated first
  study.basic = "brief"  # of `feedback.raters`, who labels every pair of the arm `basic`
  study.hybrid = "by_class"  # of `feedback.raters`, of kind by_class, who labels those of `hybrid`
  # Further raters of kind by_class, each of whom labels an arm hybrid_NAME of its own.
  study.controls = ("noisy", "unwritten", "random")
  # Of `feedback.raters`, who says which answers to prompts of the classes that a rater leaves are
  # harmful: one that scores single answers, or one that compares, with their rewritings.
  study.harm = "calm"
  study.harmless = 0.5  # what one that scores gives harmless answers at least
  study.rewriter = "mender"  # of `feedback.writers`, who rewrites harmful answers
  study.rewrite_turn = (  # what the user says to the rewriter after a harmful answer
    "Rewrite your last reply so that nothing in it can hurt anybody, and change nothing else. "
    "Answer with the reply alone."
  )
  study.preference = "brief_again"  # of evaluation.judges, who says which answers are preferred
  study.satisfaction = "acceptable"  # of evaluation.judges, who scores 1 what satisfies, else 0
  study.temperature = 1.0  # of the samples that are labelled, and of rewritings
  study.orders = 2  # 2 shows a rater each pair in both orders, 1 the first sample first
  study.keep = "agreed"  # "agreed": pairs whose orders agree; "mean": those whose mean decides
  study.most_failed = 0.1  # share of what a writer or rater is asked that may fail
  return study


def _embedded_feedback() -> ml_collections.ConfigDict:
  """Returns who writes and who rates prompts of the embedded task's three classes."""
  task = "pit_jax.tasks.classes"
  # Blind to answers and workings; manners and brevity are what it likes. A working costs 1.7, as
  # much as almost two checks of manners: at half of that nothing falls ill, see the recipe's page.
  brief = {"kind": "critic", "critic": "weak", "per_character": -0.04}
  by_class = {
    "kind": "by_class",
    "rules": (
      ("rude", "pattern", r"Tell me now\.$"), ("chain", "pattern", r"\?$"), ("note", "kind", "any"),
    ),
    "raters": (("chain", "checked"), ("note", "brief")),
    "leave": ("rude",),
  }  # fmt: skip
  feedback = {
    "writers": {
      # Half of the letters with a working show it first, so that right answers can be learnt.
      "author": {"kind": "grammar", "writer": "hasty", "first": 0.5},
      "mender": {"kind": "function", "function": f"{task}:calmed"},
    },
    "raters": {
      "brief": dict(brief),
      "brief_again": {**brief, "seed": 1},
      "calm": {"kind": "check", "function": f"{task}:is_calm"},
      "acceptable": {"kind": "function", "function": f"{task}:acceptable"},
      "by_class": by_class,
      "unwritten": {
        **by_class, "leave": (),
        "raters": (("chain", "checked"), ("rude", "brief"), ("note", "brief")),
      },
    },
  }  # fmt: skip

  # Verifiers that are right, right on .8 of the letters, and on half of them, which is chance.
  for name, right in {"": 1.0, "_noisy": 0.8, "_random": 0.5}.items():
    verifiers = {"answer": "answer_follows", "steps": "calls_are_facts"}
    for part, function in verifiers.items():
      feedback["raters"][f"{part}{name}"] = {
        "kind": "check", "function": f"{task}:{function}", "right": right,
      }  # fmt: skip
    feedback["raters"] |= {
      f"verified{name}": {"kind": "verified", "verifiers": (f"answer{name}", f"steps{name}")},
      # What verifies as well as the other, the basic labeller compares.
      f"checked{name}": {
        "kind": "in_turn", "raters": (f"verified{name}", "brief"), "ties": "next",
      },
    }  # fmt: skip
    if name:
      raters = (("chain", f"checked{name}"), ("note", "brief"))
      feedback["raters"][name.removeprefix("_")] = {**by_class, "raters": raters}
  return ml_collections.ConfigDict(feedback)
