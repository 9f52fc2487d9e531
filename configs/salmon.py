"""SALMON, a reward model that reads the principles to reward by (arXiv 2310.05910).

python launch/train.py --config=configs/salmon.py:tiny --workdir=runs/salmon

A policy is sampled twice per prompt; a judge compares the samples by one principle at a time; one
reward model learns from rows that show some of the principles; and a policy is trained for each
list of principles by that one reward model.
"""

import ml_collections

from pit_jax.configs import common, dpo


def get_config(size: str = "tiny") -> ml_collections.ConfigDict:
  """Returns the configuration of recipe `salmon`."""
  config = common.get_config(size)
  config.recipe = "salmon"  # the method: a recipe's name, or the path of a file that declares one
  config.sft = common.sft(size)
  config.reward = common.reward(size)
  config.dpo = dpo.section(size)
  config.dpo.fold = "reward"
  config.dpo.sft_coefficient = 0.0  # labels say which response is better, and not that it is good
  config.gap_reward = common.gap_reward(size)
  config.rl = common.rl(config, size)
  config.salmon = _principles()
  config.feedback = _embedded_feedback()
  if size == "tiny":
    config.model.base = "embedded_words"  # which knows the words of the principles
    config.data.rows = 2_200
    config.data.held_out = 0.2
    config.data.fold_sizes = (1.0, 2.0, 1.0)  # two samples of every prompt of the second are judged
    config.data.max_prompt_length = 112  # a question and five principles
    # The base cannot read: what principles mean it learns from the demonstrations. A head on its
    # trunk learns from so many noisy labels what checks are worth on average, and not what they are
    # worth under a principle; the likelihoods of its letters know.
    config.salmon.form, config.salmon.bank = "implicit", "embedded_brief"
    config.sft.batch_size, config.sft.epochs, config.sft.learning_rate = 16, 2.0, 2e-3
    config.dpo.epochs = 0.5
    config.reward.batch_size, config.reward.epochs, config.reward.learning_rate = 16, 2.0, 1e-3
    # Were half of them negated, no check were worth anything on average, and a small model would
    # find no direction to begin with.
    config.salmon.negated = 0.25
    config.rl.steps = 10  # of four policies, whose reward rose in 8 and hardly after
    config.evaluation.prompts = 384
  return config.lock()


def _principles() -> ml_collections.ConfigDict:
  salmon = ml_collections.ConfigDict()
  # The principles: "embedded", those of the embedded task, and "embedded_brief", in few words;
  # "chat", some for a chat model; or a YAML file.
  salmon.bank = "embedded"
  # How a prompt shows principles: {principles} and {prompt}, in either order.
  salmon.template = "{prompt}\nPrinciples: {principles}"
  salmon.joint = " "  # what stands between two principles
  # How the reward model is shown a response: "{response}", after a prompt with principles; or with
  # {principles} and, where it is to come first, {prompt}, in any order, and a prompt without them.
  # The paper's order is "{response}\nQuestion: {prompt}\nPrinciples: {principles}".
  salmon.response = "{response}"
  # What the reward model is: "scalar", a head on the last state, by the section `reward`; or
  # "implicit", how much likelier a response is under the principles than without, by `dpo`.
  salmon.form = "scalar"
  # Of `feedback.raters`, who compares two samples by one principle, in both orders.
  salmon.judge = "self"
  # Of `feedback.writers`, whom the policy that is sampled imitates; "": it is the base as it is.
  salmon.writer = "mixed"
  # How often the writer answers each prompt with principles as well, which the policy then imitates
  # too: its trunk, with which the reward models begin, knows the principles' words from there. 0
  # for a base that knows them.
  salmon.instructed = 4
  salmon.temperature = 1.0  # of the samples that are compared
  salmon.most_failed = 0.1  # share of what writer or judge is asked that may fail
  salmon.passes = 4  # rows that are made of each pair
  # p of the geometric distribution of how many principles a row shows; more than 8 are drawn anew.
  salmon.stop = 0.2
  salmon.negated = 0.5  # share of the principles that a row shows negated
  salmon.flip = 0.1  # share of the labels that are turned round
  # The list of principles that `salmon` is trained for, as "answer,not:closing", by their names in
  # the bank; "": drawn by weight for every response.
  salmon.principles = "answer,working,greeting,tone,closing"
  # Further policies of the same reward model, as pairs of a name and a list.
  salmon.others = (
    ("manners", "greeting,closing"),
    ("substance", "answer,working,tone"),
    ("not_closing", "answer,working,greeting,tone,not:closing"),
  )
  salmon.drawn = 3  # principles that are drawn for a response, where a list is ""
  # Whether two more reward models are trained: one whose rows show each other's principles, and
  # one whose rows show none.
  salmon.controls = True
  # Whether an improver is trained for principles, too, and a gap reward for it where the form is
  # "scalar".
  salmon.improver = False
  salmon.pairs = 256  # held-out prompts on which the reward models are asked, at most
  return salmon


def _embedded_feedback() -> ml_collections.ConfigDict:
  """Returns the writer and the judge of the embedded task."""
  return ml_collections.ConfigDict({
    "writers": {
      # Every habit about as often as not, so that a policy can be led either way.
      "mixed": {
        "kind": "grammar", "writer": "hasty", "works": 0.6, "warm": 0.5, "calm": 0.5, "first": 0.4,
      },
    },
    # Where the judge stands in for a model that is too small to judge, it reads one check.
    "raters": {"self": {"kind": "reader", "noise": 0.35, "flip": 0.1}},
  })  # fmt: skip
