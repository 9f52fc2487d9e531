"""Checkpoints come back bit for bit, or say what is wrong with them."""

import json
import logging
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import struct
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pit_jax.training import checkpoint, keeping, record

METADATA = {"model": "tiny", "template": "a1b2", "data": ["jsonl", 7]}


@struct.dataclass
class State:
  """A state with everything that real ones have: records, named tuples, empty nodes, two types."""

  step: jax.Array
  params: dict
  opt_state: optax.OptState


def make_state(scale: float = 1.0) -> State:
  params = {
    "embed": jnp.arange(12, dtype=jnp.float32).reshape(4, 3) * scale,
    "layers": {"w": jnp.full((2, 5), 0.1 * scale), "b": jnp.full((3,), scale, jnp.bfloat16)},
  }
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
  return State(step=jnp.int32(7), params=params, opt_state=optimizer.init(params))


def assert_same(left, right) -> None:
  assert jax.tree.structure(left) == jax.tree.structure(right)
  for one, other in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
    assert one.dtype == other.dtype
    assert one.sharding.is_equivalent_to(other.sharding, one.ndim)
    assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def save_steps(directory: pathlib.Path, steps=(1, 2), metadata=METADATA) -> None:
  with checkpoint.Checkpoints(directory) as saved:
    for number in steps:
      saved.save(number, make_state(number), metadata)


def largest_file(directory: pathlib.Path) -> pathlib.Path:
  files = [path for path in (directory / "state").rglob("*") if path.is_file()]
  return max(files, key=lambda path: path.stat().st_size)


def remove(path: pathlib.Path) -> None:
  largest_file(path).unlink()


def cut(path: pathlib.Path) -> None:
  file = largest_file(path)
  file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(path: pathlib.Path) -> None:
  file = largest_file(path)
  content = bytearray(file.read_bytes())
  content[len(content) // 2] ^= 0x10
  file.write_bytes(content)


def empty(path: pathlib.Path) -> None:
  shutil.rmtree(path)
  path.mkdir()


def break_record(path: pathlib.Path) -> None:
  (path / "record" / "metadata").write_text('{"metadata"')


def test_a_train_state_comes_back_bit_for_bit(tmp_path):
  save_steps(tmp_path)
  with checkpoint.Checkpoints(tmp_path) as saved:
    assert saved.latest() == 2
    for number in (1, 2):
      state, metadata = saved.restore(number, jax.eval_shape(make_state))
      assert_same(state, make_state(number))
      assert metadata == METADATA


def test_typed_keys_and_odd_floats_come_back(tmp_path):
  state = {"key": jax.random.key(3), "odd": jnp.array([jnp.nan, jnp.inf, -0.0, 1e-45])}
  with checkpoint.Checkpoints(tmp_path) as saved:
    saved.save(1, state, {})
    restored, _ = saved.restore(1, state)
  assert (jax.random.key_data(restored["key"]) == jax.random.key_data(state["key"])).all()
  assert np.asarray(restored["odd"]).tobytes() == np.asarray(state["odd"]).tobytes()


def test_shardings_come_from_the_state_asked_for(tmp_path):
  mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("fsdp", "tensor"))
  saved_as = NamedSharding(mesh, PartitionSpec("fsdp", "tensor"))
  wanted = NamedSharding(mesh, PartitionSpec(None, "fsdp"))
  weights = jnp.arange(64, dtype=jnp.float32).reshape(8, 8)
  with checkpoint.Checkpoints(tmp_path) as saved:
    saved.save(1, {"w": jax.device_put(weights, saved_as)}, {})
    restored, _ = saved.restore(1, {"w": jax.device_put(jnp.zeros((8, 8)), wanted)})
  assert restored["w"].sharding.is_equivalent_to(wanted, 2)
  np.testing.assert_array_equal(restored["w"], weights)


@pytest.mark.parametrize("devices", [1, 8])
def test_a_step_that_donates_the_state_does_not_change_what_is_saved(tmp_path, devices):
  sharding = NamedSharding(
    Mesh(np.array(jax.devices()[:devices]), ("data",)), PartitionSpec("data")
  )
  advance = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)
  start = {"w": jax.device_put(jnp.zeros((2_000_000,)), sharding)}
  state = advance(start)
  assert start["w"].is_deleted()  # so donation is real here, and would overwrite a view
  with checkpoint.Checkpoints(tmp_path) as saved:
    saved.save(1, state, {})
    for _ in range(20):  # while the save is being written
      state = advance(state)
    restored, _ = saved.restore(1, state)
  assert float(restored["w"].min()) == float(restored["w"].max()) == 1.0


def test_a_reader_finds_nothing_and_makes_nothing_where_nothing_is(tmp_path):
  with checkpoint.Checkpoints(tmp_path / "absent", read_only=True) as saved:
    assert saved.latest() is None
    assert saved.resume(make_state()) is None
    with pytest.raises(FileNotFoundError, match="no checkpoint, not step 3"):
      saved.restore(3, make_state())
  assert not (tmp_path / "absent").exists()


def test_only_the_newest_are_kept(tmp_path):
  with checkpoint.Checkpoints(tmp_path, keeping.Keeping(newest=2)) as saved:
    for number in range(1, 5):
      saved.save(number, make_state(number), METADATA)
    saved.wait()
    kept = sorted(int(path.name) for path in tmp_path.iterdir())
  assert kept == [3, 4]


@pytest.mark.parametrize(
  "best, scores, expected",
  [
    ("lowest", [3.0, 1.0, 2.0, None, 4.0], 2),
    ("highest", [3.0, 1.0, 2.0, None, 1.0], 1),
    ("lowest", [float("nan"), 2.0, 3.0, 4.0, 5.0], 2),
    ("highest", [None] * 5, None),
  ],
)
def test_the_best_is_kept_beside_the_newest(tmp_path, best, scores, expected):
  chosen = keeping.Keeping(newest=2, best=best)
  for number, score in enumerate(scores, start=1):
    with checkpoint.Checkpoints(
      tmp_path, chosen
    ) as saved:  # each time in a new process, as it were
      saved.save(number, make_state(number), METADATA, score)
  kept = {int(path.name) for path in tmp_path.iterdir()}
  assert kept == {4, 5} | ({expected} if expected else set())
  with checkpoint.Checkpoints(tmp_path, chosen) as saved:
    assert saved.best() == expected
    assert saved.resume(make_state(), METADATA).step == 5


@pytest.mark.parametrize("damage", [remove, cut, flip, empty, break_record])
def test_a_damaged_newest_checkpoint_falls_back_and_says_so(tmp_path, caplog, damage):
  save_steps(tmp_path)
  damage(tmp_path / "2")
  with (
    caplog.at_level(logging.WARNING, logger=checkpoint.__name__),
    checkpoint.Checkpoints(tmp_path) as saved,
  ):
    resumed = saved.resume(make_state(), METADATA)
    assert resumed.step == saved.latest() == 1
    assert_same(resumed.state, make_state(1))
    saved.save(2, make_state(2), METADATA)
    state, _ = saved.restore(2, make_state())
  assert_same(state, make_state(2))
  assert str(tmp_path / "2") in caplog.text
  assert (tmp_path / "2.damaged").is_dir()


def test_one_wrong_bit_in_the_weights_is_noticed(tmp_path, caplog):
  state = {"w": jax.random.normal(jax.random.key(0), (300, 300))}  # too big for the index files
  with checkpoint.Checkpoints(tmp_path) as saved:
    saved.save(1, state, {})
    saved.save(2, state, {})
  flip(tmp_path / "2")
  with checkpoint.Checkpoints(tmp_path) as saved:
    assert saved.resume(state).step == 1
  assert "checksums" in caplog.text


def test_nothing_is_touched_when_no_checkpoint_can_be_read(tmp_path):
  save_steps(tmp_path)
  for number in ("1", "2"):
    remove(tmp_path / number)
  with (
    checkpoint.Checkpoints(tmp_path) as saved,
    pytest.raises(checkpoint.DamagedError, match=r"\[1, 2\] can be read"),
  ):
    saved.resume(make_state())
  assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


def test_an_unfinished_save_is_no_checkpoint(tmp_path):
  save_steps(tmp_path, steps=(1,))
  (tmp_path / "1").rename(tmp_path / "3.orbax-checkpoint-tmp")
  with checkpoint.Checkpoints(tmp_path, read_only=True) as saved:
    assert saved.latest() is None
  assert (tmp_path / "3.orbax-checkpoint-tmp").exists()  # it may be another process's save
  with checkpoint.Checkpoints(tmp_path) as saved:
    assert saved.latest() is None
    assert saved.resume(make_state()) is None
    saved.save(2, make_state(2), METADATA)
  assert [path.name for path in tmp_path.iterdir()] == ["2"]
  with checkpoint.Checkpoints(tmp_path) as saved:
    assert saved.latest() == 2


def test_other_arrays_are_refused_and_named(tmp_path):
  save_steps(tmp_path)
  other = make_state()
  other.params["embed"] = jnp.zeros((4, 4))
  with checkpoint.Checkpoints(tmp_path) as saved:
    with pytest.raises(ValueError, match=r"embed.*float32\[4,3\], wanted float32\[4,4\]") as error:
      saved.resume(other)
    assert not isinstance(error.value, checkpoint.DamagedError)
    with pytest.raises(ValueError, match="absent"):
      saved.restore(2, {"step": jnp.int32(0)})
    with pytest.raises(FileNotFoundError, match=r"steps \[1, 2\], not step 9"):
      saved.restore(9, other)


def test_another_run_is_refused_by_its_metadata_first(tmp_path):
  save_steps(tmp_path)
  with (
    checkpoint.Checkpoints(tmp_path) as saved,
    pytest.raises(ValueError, match='model was "tiny" .* and is "small" now'),
  ):
    saved.resume({"other": jnp.zeros(())}, {**METADATA, "model": "small"})


def test_metadata_compares_as_it_is_stored():
  saved = json.loads(json.dumps(METADATA))
  record.check_metadata(saved, {**METADATA, "data": ("jsonl", 7)})
  for changed, message in (
    ({**METADATA, "template": "ffff"}, '"a1b2" .* "ffff"'),
    ({**METADATA, "data": ["jsonl", 8]}, r'\["jsonl", 7\] .* \["jsonl", 8\]'),
    ({**METADATA, "seed": 1}, "seed was absent .* 1 now"),
    ({"model": "tiny", "template": "a1b2"}, r"\[.*7\] .* absent now"),
  ):
    with pytest.raises(ValueError, match=message):
      record.check_metadata(saved, changed)


def test_misuse_is_explained(tmp_path):
  with pytest.raises(ValueError, match="newest=0"):
    keeping.Keeping(newest=0)
  with pytest.raises(
    ValueError, match='best="max"; use "lowest", "highest"'.replace('"max"', "'max'")
  ):
    keeping.Keeping(best="max")
  save_steps(tmp_path)
  with (
    checkpoint.Checkpoints(tmp_path) as saved,
    pytest.raises(ValueError, match="already holds step 2, so step 2"),
  ):
    saved.save(2, make_state(), METADATA)
  with (
    checkpoint.Checkpoints(tmp_path, read_only=True) as saved,
    pytest.raises(ValueError, match="read_only"),
  ):
    saved.save(3, make_state(), METADATA)
