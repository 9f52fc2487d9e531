"""The networks of a run at work, what they start from, and the models of others beside them."""

import dataclasses

import jax

from pit_jax import compiling, heap, layout, parallel
from pit_jax.models import pure
from pit_jax.rollout import inference
from pit_jax.run import origin, published_models
from pit_jax.types import Params

FULL = 0.5  # of the pieces of memory a process may map; a whole run of pit:tiny takes 0.13


@dataclasses.dataclass(frozen=True)
class Models:
  """The networks of a run; the parameters of what it trains are arguments everywhere."""

  # Policy, improver and scalar models at work, with tokenizer, template and limits.
  inference: inference.Inference
  offload: bool = False  # whether models that are not trained now wait in the hosts' memory
  base: origin.Base | None = None  # what the models start from; None: random weights
  reward: published_models.Published | None = None  # that is the run's own
  judge: published_models.Published | None = None  # that judges the results
  language_judge: origin.Published | None = None  # in a directory, that does too

  @property
  def language(self) -> pure.PureModel:
    """The network of policy and improver."""
    return self.inference.language

  @property
  def scalar(self) -> pure.PureModel:
    """The network of reward, gap reward and value models."""
    return self.inference.scalar

  def initial_policy(self, key: jax.Array) -> Params:
    """Returns the language model every policy starts from; what its base lacks is drawn."""
    places = parallel.homes(self.language, self.inference.mesh)
    start = self.base.params if self.base else {}
    return pure.complete(self.language, key, start, places)

  def waiting(self, params: Params) -> Params:
    """Returns the parameters of a model that is not trained now, where it waits to be asked."""
    return layout.to_hosts(params) if self.offload else params

  def prepare(self) -> None:
    """Has the process keep what its programs free, for small networks alone on CPUs.

    Others work for longer on every page than it takes to clear one, and have none to spare.
    """
    platform = self.inference.mesh.devices.flat[0].platform
    published = (self.reward, self.judge, self.language_judge)
    if self.language.is_small and platform == "cpu" and not any(published):
      heap.keep()

  def release(self) -> None:
    """Drops the programs that earlier stages compiled: hundreds of megabytes stay otherwise.

    For the beginning of supervised stages and of RL; the stages of a curriculum share
    theirs. Those of a small network take less than compiling again is worth, and stay as long
    as there is room for more.
    """
    if not self.language.is_small or compiling.share_of_maps() > FULL:
      compiling.forget()
      self.trim()

  def trim(self) -> None:
    """Gives the system what the process has freed, of which each compilation leaves much.

    Small networks leave too little to be worth it.
    """
    if not self.language.is_small:
      heap.give_back()
