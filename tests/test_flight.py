"""A step that goes wrong leaves what it was given, a plain guess at why, and a way to repeat it."""

import json
import shlex

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pit_jax.training import flight, log, loop, operations

KEY = jax.random.key(7)


def batch(index, poison):
  rows = np.random.default_rng(index).normal(size=(4, 3)).astype(np.float32)
  if index in poison:
    rows[2, 1] = np.nan
  return rows


@jax.jit
def step(state, rows, key):
  moved = (
    state["w"] * 0.9 + jnp.where(jnp.isfinite(rows), rows, 0.0).mean() + jax.random.normal(key)
  )
  metrics = {"loss": (rows * state["w"]).sum(), "objective/kl": jnp.abs(moved).sum()}
  return {"w": moved}, metrics | {"val/ratio_first": 1.0 + 0.01 * moved[0] ** 2}


def run(workdir, poison=(), steps=12, save_every=4, taken=None, **limits):
  """Trains a toy whose batch and key follow from the step."""

  def advance(state, index):
    if taken is not None:
      taken.append(index)
    given = {"rows": batch(index, poison), "key": jax.random.fold_in(KEY, index)}
    return *step(state, *given.values()), given

  return loop.fit(
    "toy",
    advance,
    {"w": jnp.ones(3)},
    steps=steps,
    workdir=workdir,
    metadata={},
    log_every=3,
    save_every=save_every,
    surroundings=operations.Operations(recorder=flight.Recorder(**limits)),
  )


def record_of(workdir, step):
  return json.loads((workdir / "flight" / f"toy-{step}" / "record.json").read_text())


@pytest.mark.parametrize("kl, words", [(60.0, "has left the model"), (-1.5, "is not the one that")])
def test_a_kl_beyond_its_limits_is_named_with_its_likely_cause(kl, words):
  recorder = flight.Recorder(kl=50.0, negative_kl=1.0)
  broken = recorder.broken({"objective/kl": kl, "loss": 0.5})
  assert broken == {"objective/kl": kl}
  assert words in flight.cause(broken, {"scores": np.zeros(3, np.float32)})
  for sound in (-0.9, 0.0, 49.0):
    assert not recorder.broken({"objective/kl": sound})
  for limits in ({"kl": 50.0}, {"negative_kl": 1.0}):
    side = kl if "kl" in limits else -kl
    assert bool(flight.Recorder(**limits).broken({"objective/kl": kl})) == (side > 0)


def test_a_nan_is_recorded_with_its_inputs_and_blamed_on_them(tmp_path, caplog):
  run(tmp_path, poison=[6])
  record, inputs = record_of(tmp_path, 7), np.load(tmp_path / "flight" / "toy-7" / "inputs.npz")
  np.testing.assert_array_equal(inputs["rows"], batch(6, [6]))
  key = jax.random.wrap_key_data(inputs["key"])
  assert (jax.random.bits(key) == jax.random.bits(jax.random.fold_in(KEY, 6))).all()
  assert record["cause"].startswith("rows was not finite in rows [2] before the step began")
  assert shlex.split(record["command"])[-1] == "--replay=toy:7"
  (said,) = [entry.getMessage() for entry in caplog.records if entry.name == log.__name__]
  assert "toy: STEP 7 WENT WRONG: loss = nan" in said and record["command"] in said


@pytest.mark.parametrize("save_every", [4, 50])  # from the checkpoint before, from the start
def test_a_recorded_step_replays_to_the_same_numbers(tmp_path, capsys, save_every):
  settings = {"poison": [6], "save_every": save_every}
  run(tmp_path, **settings)  # to its end, with newer checkpoints than the record's
  files = {path for path in tmp_path.rglob("*") if path.is_file()}
  for poison, code in (([6], 0), ([5, 6], 1)):
    if save_every == 4 and code:
      continue  # step 5 is one that the checkpoint holds
    taken = []
    with flight.replaying(flight.parse("toy:7")), pytest.raises(flight.Replayed) as ended:
      run(tmp_path, **settings | {"poison": poison}, taken=taken)
    assert ended.value.code == code
    assert taken == list(range(4 if save_every == 4 else 0, 7))
    said = capsys.readouterr().out
    assert "rows was not finite" in said and said.count("the same") == (3 if code == 0 else 1)
  assert {path for path in tmp_path.rglob("*") if path.is_file()} == files


def test_what_was_not_recorded_cannot_be_replayed(tmp_path):
  run(tmp_path, poison=[6])
  with (
    flight.replaying(flight.Replay("toy", 3)),
    pytest.raises(ValueError, match=r"step 3 of stage toy was not recorded .*\['toy:7'\]"),
  ):
    run(tmp_path, poison=[6])
  with pytest.raises(ValueError, match="give STAGE:STEP"):
    flight.parse("toy")
  assert flight.parse(None) is None and flight.parse("a:b:3") == flight.Replay("a:b", 3)


@pytest.mark.parametrize(
  "limits, metric, cause",
  [
    ({"kl": 3.0}, "objective/kl", "left the model it started from"),
    ({"ratio": 0.01}, "val/ratio_first", "temperature, masks or precision"),
  ],
)
def test_what_goes_beyond_a_limit_is_recorded(tmp_path, limits, metric, cause):
  run(tmp_path / "watched", **limits)
  rows = [json.loads(line) for line in (tmp_path / "watched/metrics/toy.jsonl").open()]
  names = sorted(path.name for path in (tmp_path / "watched" / "flight").iterdir())
  assert 1 <= len(names) <= flight.MOST
  for name in names:
    record = json.loads((tmp_path / "watched" / "flight" / name / "record.json").read_text())
    value = float(record["metrics"][metric])
    assert value > 3.0 if "kl" in limits else abs(value - 1) > 0.01
    assert cause in record["cause"]
    for row in rows:
      assert row["step"] != record["step"] or row[metric] == value
  run(tmp_path / "unwatched")
  assert not (tmp_path / "unwatched" / "flight").exists()


def test_an_overflow_is_not_blamed_on_what_was_given():
  given = {"rows": np.ones((2, 3), np.float32), "ids": np.arange(3)}
  assert "overflowed" in flight.cause({"policy/loss": np.nan}, given)
  assert "overflowed" in flight.cause({"val/skipped": 1.0}, given)
