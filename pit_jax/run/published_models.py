"""The published reward models of a run: what may be R_P, and what judges its results."""

import dataclasses
import functools
import importlib.util
import pathlib

import jax
import ml_collections
import transformers

from pit_jax.data import classifier_text, hf_text, text
from pit_jax.exchange import classifier_files, directories, families, hf
from pit_jax.models import architecture, pure
from pit_jax.rollout import classifiers
from pit_jax.run import origin

BACKENDS = ("auto", "jax", "torch")
# A published reward model may read this many times the run's lengths: its template may be longer,
# and its tokens shorter.
ROOM = 2
# Families whose first token has not position 0 but the one after that of padding.
_SHIFTED = frozenset((
  "camembert", "data2vec-text", "ibert", "lilt", "longformer", "luke", "mpnet", "roberta",
  "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
))  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Published:
  """A published reward model, asked in its own tokens and its own template."""

  directory: pathlib.Path
  reader: classifier_text.Reader  # turns conversations into its tokens
  published: "transformers.PreTrainedConfig"  # its config.json
  config: architecture.ModelConfig | None  # None of one that transformers computes in PyTorch

  @functools.cached_property
  def metadata(self) -> dict[str, str]:
    """Everything that decides what it says: of the weights' files a fingerprint."""
    names = None
    if self.config is None:  # transformers reads older files too
      paths = sorted(self.directory.glob("*.safetensors")) or sorted(self.directory.glob("*.bin"))
      names = [path.name for path in paths]

    return {
      "model": hf.fingerprint(self.directory, names),
      "tokenizer": self.reader.fingerprint,
      "template": self.reader.hash,
    }

  @property
  def scalar(self) -> pure.PureModel | None:
    """Its network; None of one that transformers computes in PyTorch."""
    return self.config and pure.scalar_model(self.config)

  def fits(self, model: architecture.ModelConfig, tokenizer: text.Tokenizer) -> bool:
    """Returns whether a run's scalar models can start from its trunk, with the run's tokenizer.

    With adapters they start from the base. The same tokens need the same ids.
    """
    if self.config is None:
      return False
    same = {name: getattr(model, name) for name in ("tied", "remat", "unroll")}  # no other trunk

    # The run's tokenizer may have been given a padding token, which no text holds.
    own, runs = (
      {token: place for token, place in vocabulary.items() if place != tokenizer.pad_id}
      for vocabulary in (self.reader.vocabulary, tokenizer.vocabulary)
    )
    return own == runs and dataclasses.replace(self.config, **same) == model

  def load(self, mesh: jax.sharding.Mesh, batch_size: int) -> classifiers.Classifier:
    """Returns the classifier with its weights loaded.

    A batch, the rows of a compiled call, is a multiple of the mesh's data × fsdp sizes.

    Raises:
      ValueError: its weights cannot be read or do not fit.
    """
    if self.config is None:
      return classifier_files.in_torch(self.directory, self.reader)
    parts = (self.directory, self.reader, self.config, self.published)
    return classifier_files.compiled(*parts, mesh=mesh, batch_size=batch_size)


def find(
  config: ml_collections.ConfigDict, platform: str
) -> tuple[Published | None, Published | None]:
  """Returns the published models that are R_P and that judge, where any are named, weights unread.

  The platform is that of the devices, which choose the attention.

  Raises:
    ValueError: if a directory holds no classifier with one label and its tokenizer, or one that
      cannot be computed here; or if R_P was to be its own judge.
  """
  c = config.evaluation
  # A recipe without R_P has no section for it.
  named = {"reward.{}": ("", "auto", "auto")}
  if "reward" in config:
    named["reward.{}"] = (config.reward.model, config.reward.reader, config.reward.backend)
  named["evaluation.reward_{}"] = (c.reward_model, c.reward_reader, c.reward_backend)

  reward, judge = (
    _described(config, key, *choice, platform) if choice[0] else None
    for key, choice in named.items()
  )

  if reward and judge and reward.directory.samefile(judge.directory):
    raise ValueError(
      f"reward.model and evaluation.reward_model are both {reward.directory}, and what rewards "
      "the policy is no independent judge; R_P judges without being named, so leave "
      "evaluation.reward_model empty or name another model"
    )

  return reward, judge


def _described(
  config: ml_collections.ConfigDict, keys: str, named: str, kind: str, backend: str, platform: str
) -> Published:
  """Returns the published reward model in a directory that keys name; {} is their last word."""
  key = keys.format("model")
  directory = pathlib.Path(named)
  published = _config(key, directory)
  is_compiled = _is_compiled(keys, directory, published, backend)
  try:
    # As its file says, or, for PyTorch, as transformers opens it.
    fast = hf_text.read(directory, by_class=not is_compiled)
  except ValueError as error:
    raise ValueError(f"{key}={directory} cannot be asked: {error}") from error

  shape = origin.published_shape(config, platform, directory) if is_compiled else None

  c = config.data
  longest = min(_longest(published, fast), ROOM * (c.max_prompt_length + c.max_response_length))
  try:
    reader = classifier_text.open_reader(fast, kind, longest, ROOM * c.max_response_length)
  except ValueError as error:
    raise ValueError(
      f"{key}={named} with {keys.format('reader')}={kind!r} cannot be asked: {error}"
    ) from error

  size = published.get_text_config().vocab_size
  origin.check_vocabulary(f"{key}={named}", size, 1 + max(reader.vocabulary.values()))
  return Published(directory, reader, published, shape)


def _config(key: str, directory: pathlib.Path) -> "transformers.PreTrainedConfig":
  """Returns the config.json of a classifier with one label."""
  directories.check(key, directory)
  try:
    published = classifier_files.published_config(directory)
    is_classifier = families.is_classifier(directory)
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(f"{key}={directory}: config.json cannot be read: {error}") from error

  if not is_classifier:
    raise ValueError(
      f"{key}={directory} holds no sequence classifier; give a directory whose "
      "config.json names an architecture …ForSequenceClassification"
    )

  if published.num_labels != 1:
    raise ValueError(
      f"{key}={directory} has {published.num_labels} labels, and a reward is one number; give a "
      "classifier with one"
    )

  return published


def _is_compiled(
  keys: str, directory: pathlib.Path, published: "transformers.PreTrainedConfig", backend: str
) -> bool:
  """Returns whether a classifier is computed in JAX, and not by transformers in PyTorch."""
  # By itself ("auto") a family is computed here if it can be, and else in PyTorch.
  is_ours = published.model_type in families.FAMILIES
  if backend == "jax" or (backend == "auto" and is_ours):
    hf.read(directory)  # what cannot be read says so, and what is supported
    return True

  if importlib.util.find_spec("torch") is None:
    raise ValueError(
      f"{keys.format('model')}={directory} is of the family {published.model_type!r} and computed "
      "by transformers in PyTorch, which is not installed; pip install 'pit_jax[torch]'"
    )

  return False


def _longest(
  published: "transformers.PreTrainedConfig", fast: transformers.PreTrainedTokenizerFast
) -> int:
  """Returns the most tokens that a classifier can read."""
  text_config = published.get_text_config()
  longest = int(fast.model_max_length)
  positions = getattr(text_config, "max_position_embeddings", None) or 0
  if text_config.model_type in _SHIFTED:
    positions -= text_config.pad_token_id + 1
  return min(longest, positions) if positions > 0 else longest  # XLNet says -1: any number
