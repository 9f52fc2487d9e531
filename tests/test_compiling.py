"""Programs that are kept on disk: they change no bit, and no other machine reads them."""

import collections
import contextlib
import json
import pathlib
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import tiny_run

from pit_jax import compiling
from pit_jax.recipes import rlhf, running
from pit_jax.run import workdirs
from pit_jax.storage import owners
from pit_jax.training import verify

EVENTS = ("cache_hits", "cache_misses")


@pytest.fixture
def unset():
  """JAX's cache as it is where the environment says nothing of it."""
  before = jax.config.jax_compilation_cache_dir
  compiling._set({"jax_compilation_cache_dir": None})
  yield
  compiling._set({"jax_compilation_cache_dir": before})


@pytest.fixture
def counted():
  """Counts programs that were read from disk, and those that were compiled and written."""
  counts = collections.Counter()

  def note(event, **_):
    counts[event.rpartition("/")[2]] += 1

  jax.monitoring.register_event_listener(note)
  yield lambda: tuple(counts.pop(name, 0) for name in EVENTS)
  jax.monitoring.unregister_event_listener(note)


def compute(x):
  # Made anew by each call, so that no program of the process serves it.
  return np.asarray(jax.jit(lambda x: jnp.sin(x) * 3 + 1)(x))


def test_programs_are_read_from_the_folder_and_settings_come_back(tmp_path, unset, counted):
  x = np.arange(5.0, dtype=np.float32)
  plain = compute(x)
  assert counted() == (0, 0)
  for expected in ((0, 1), (1, 0)):
    with compiling.kept(tmp_path / "programs", 1 << 20):
      compiled = compute(x)
    assert counted() == expected
    assert compiled.tobytes() == plain.tobytes()
  assert jax.config.jax_compilation_cache_dir is None
  compute(x)
  assert counted() == (0, 0)
  (folder,) = (tmp_path / "programs").iterdir()
  assert folder.name == compiling.machine() and folder.name.startswith("cpu-")


@pytest.mark.parametrize("damage", [lambda whole: whole[:-9], lambda whole: b""])
def test_a_damaged_program_is_told_in_a_sentence_and_replaced(
  damage, tmp_path, unset, counted, caplog, recwarn
):
  x = np.arange(5.0, dtype=np.float32)
  with compiling.kept(tmp_path, 1 << 20):
    compiled = compute(x)
  (file,) = tmp_path.rglob("*-cache")
  file.write_bytes(damage(file.read_bytes()))
  counted()
  for expected in ((0, 1), (1, 0)):
    caplog.clear()
    with compiling.kept(tmp_path, 1 << 20):
      assert compute(x).tobytes() == compiled.tobytes()
    assert counted()[0] == expected[0]
    said = f"{file}: holds no whole program; it is compiled again, and written anew"
    assert [record.getMessage() for record in caplog.records] == [said] * expected[1]
  assert not recwarn.list


def test_what_the_environment_says_goes_before(tmp_path):
  # As the tests' own environment does, for all processes.
  before = jax.config.jax_compilation_cache_dir
  assert before is not None
  with compiling.kept(tmp_path / "programs", 1 << 20):
    assert jax.config.jax_compilation_cache_dir == before
  assert not (tmp_path / "programs").exists()


def test_the_folder_is_bounded(tmp_path, unset):
  def compute(n):
    return jax.jit(lambda x: x * n)(np.arange(n))

  with compiling.kept(tmp_path, 1 << 30):
    compute(3)
  (size,) = (path.stat().st_size for path in tmp_path.rglob("*-cache"))
  with compiling.kept(tmp_path, 3 * size):
    for n in range(4, 10):
      compute(n)
  left = [path.stat().st_size for path in tmp_path.rglob("*-cache")]
  assert 1 <= len(left) <= 3 and sum(left) <= 3 * size


def test_a_machine_without_some_instructions_has_a_folder_of_its_own(monkeypatch):
  cpu = "processor : 0\nvendor_id : A\nmodel : 85\nflags : fpu {}\nbogomips : {}\n\nprocessor : 1\n"
  names = []
  for text in (cpu.format("avx512f", 1), cpu.format("avx512f", 2), cpu.format("avx2", 1)):
    monkeypatch.setattr(pathlib.Path, "read_text", lambda *_, text=text, **__: text)
    names.append(compiling.machine())
  assert names[0] == names[1] != names[2]

  def absent(*_, **__):
    raise FileNotFoundError

  monkeypatch.setattr(pathlib.Path, "read_text", absent)
  monkeypatch.setattr(compiling.platform, "processor", lambda: "arm")
  first = compiling.machine()
  monkeypatch.setattr(compiling.platform, "processor", lambda: "other")
  assert first != compiling.machine()


def test_the_seconds_of_compiling_are_counted_and_a_thread_is_known_by_it():
  thread = threading.get_ident()
  seen = []

  def note(event, value, **_):
    if event == compiling.BACKEND:
      seen.append(compiling.is_under_way(thread))

  jax.monitoring.register_scalar_listener(note)
  try:
    before, began = compiling.seconds(), time.monotonic()
    compute(np.arange(3.0))
    lasted = time.monotonic() - began
  finally:
    jax.monitoring.unregister_scalar_listener(note)
  assert seen and all(seen) and not compiling.is_under_way(thread)
  assert 0 < compiling.seconds() - before <= lasted


def test_programs_take_room_until_they_are_forgotten(monkeypatch):
  before = compiling.share_of_maps()
  programs = [jax.jit(lambda x: jnp.tanh(x @ x) + jnp.fft.fft(x).real) for _ in range(30)]
  results = [np.asarray(program(np.eye(5, dtype=np.float32))) for program in programs]
  full = compiling.share_of_maps()

  def clear():  # other tests keep their programs
    for program in programs:
      program.clear_cache()

  monkeypatch.setattr(jax, "clear_caches", clear)
  compiling.forget()
  assert 0 < before < full < 1 and compiling.share_of_maps() < full
  np.testing.assert_array_equal(programs[0](np.eye(5, dtype=np.float32)), results[0])


@pytest.mark.parametrize(
  ("section", "place"),
  [
    ({"cache": "", "limit": 7}, "run/programs"),
    ({"cache": "shared", "limit": 7}, "shared"),
    ({"cache": "none", "limit": 7}, None),
  ],
)
def test_the_configuration_says_where(section, place, tmp_path, monkeypatch):
  config = tiny_run.config()
  with config.unlocked():
    config.compilation = {k: str(tmp_path / v) if v == "shared" else v for k, v in section.items()}
  asked = []

  def kept(*given):
    asked.append(given)
    return contextlib.nullcontext()

  monkeypatch.setattr(compiling, "kept", kept)
  with workdirs.programs(config, tmp_path / "run"):
    pass
  assert asked == ([(tmp_path / place, 7)] if place else [])


@pytest.mark.parametrize("is_claimed", [True, False])
def test_a_run_that_is_refused_leaves_no_folder(tmp_path, unset, is_claimed):
  workdir = tmp_path / "runs" / "mine"
  with (
    pytest.raises(ValueError, match="refused"),
    owners.held(workdir),
    workdirs.programs(tiny_run.config(compilation__cache=""), workdir),
  ):
    jax.jit(lambda x: x + 2.25)(jnp.zeros(3))
    assert any((workdir / "programs").iterdir())
    if is_claimed:
      (workdir / "config.json").write_text("{}")
    raise ValueError("refused")
  assert (tmp_path / "runs").exists() == is_claimed
  assert (workdir / "programs").exists() == is_claimed


def test_the_folder_cannot_be_an_address(tmp_path):
  config = tiny_run.config(compilation__cache="gs://bucket/programs")
  with (
    pytest.raises(ValueError, match="compilation.cache=gs://bucket/programs"),
    workdirs.programs(config, tmp_path),
  ):
    pass
  with pytest.raises(ValueError, match="compilation.limit=0; use 1 or more"):
    tiny_run.build(tiny_run.config(compilation__limit=0), tmp_path / "run")
  earlier = tiny_run.config()
  with earlier.unlocked():
    del earlier["compilation"]
  with pytest.raises(ValueError, match=r"compilation.limit is missing, .*; use 1 or more"):
    tiny_run.build(earlier, tmp_path / "run")


def results(workdir):
  """Returns the figures of a run, without times, dates, and what only says where programs lie."""
  found = json.loads((workdir / "report" / "results.json").read_text())
  for name in ("seconds", "goodput", "sampling", "speeds", "made"):
    del found[name]
  del found["config"]["compilation"], found["data"]["configuration_hash"]
  return found


@pytest.mark.slow
def test_no_bit_of_a_run_depends_on_kept_programs(tmp_path, unset, counted, unrendered):
  runs = {"none": "none", "cold": str(tmp_path / "kept"), "warm": str(tmp_path / "kept")}
  counts = {}
  for name, cache in runs.items():
    jax.clear_caches()
    changes = {"compilation__cache": cache, "checkpoints__checksum_limit": 1 << 40}
    counted()
    with tiny_run.experimenting(rlhf, "main"):
      running.run(tiny_run.config("rlhf", **changes), tmp_path / name)
    counts[name] = counted()
  assert counts["none"] == (0, 0)
  assert counts["cold"][1] > 20
  assert counts["warm"][0] > 20 and counts["warm"][1] == 0

  expected = verify.chain(tmp_path / "none")
  assert {link.stage for link in expected} == {"sft_policy", "reward", "rl_policy"}
  models = sorted((tmp_path / "none" / "models").rglob("*.safetensors"))
  for name in ("cold", "warm"):
    assert verify.difference(expected, verify.chain(tmp_path / name)) is None, name
    assert results(tmp_path / name) == results(tmp_path / "none"), name
    for path in models:
      other = tmp_path / name / path.relative_to(tmp_path / "none")
      arrays, others = map(safetensors.numpy.load_file, (path, other))
      assert all(arrays[key].tobytes() == others[key].tobytes() for key in arrays), other
