"""The benchmark measures what it says, and nothing it measures changes a model."""

import dataclasses
import json
import sys
import types
from unittest import mock

import jax
import numpy as np
import pytest
import tiny
import tiny_models

from pit_jax import costs
from pit_jax.commands import bench
from pit_jax.exchange import families, hf
from pit_jax.models import pure
from pit_jax.tools.bench import cases, generation, measuring, timing

NAMES = [
  "generate, batch 1",
  "generate, batch 3",
  "generate, mixed lengths",
  "generate, many mixed lengths",
  "8 samples of one prompt",
  "lay out weights",
  "sft",
  "reward",
  "gap reward",
  "dpo",
  "ppo iteration",
]
compiles = pytest.mark.slow  # every part of training
ARGUMENTS = ["--batches=1,3", "--prompt=4", "--response=5", "--rows=2", "--mixed=3", "--repeats=2"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  return tiny_models.saved(tmp_path_factory.mktemp("model"))


def run(*arguments):
  bench.main(list(arguments))


@compiles
def test_every_part_is_measured_and_models_are_as_they_were(
  directory, tmp_path, capsys, monkeypatch
):
  read, loaded = hf.load, []
  monkeypatch.setattr(hf, "load", lambda *asked: loaded.append(read(*asked)) or loaded[0])
  run(f"--model={directory}", *ARGUMENTS, f"--json={tmp_path / 'bench.json'}")
  before = read(directory, pure.language_model(families.read(directory)))
  jax.tree.map(np.testing.assert_array_equal, loaded[0], before)
  found = json.loads((tmp_path / "bench.json").read_text())
  assert [row["name"] for row in found["cases"]] == NAMES
  many = sum(generation.Sizes(prompt=4, response=5).ragged(8 * 3)[1])
  tokens = [5, 15, 1 + 4 + 20, many, 8 * 5, 1, 18, 28, 56, 28, 18]
  for row, count in zip(found["cases"], tokens, strict=True):
    assert row["per_second"] == pytest.approx(count / row["seconds"])
    assert row["unit"] == ("models" if row["name"] == "lay out weights" else "tokens")
    # Beside ourselves: as many prompts, and batches; nothing else has a peer here.
    has_peer = row["name"] in (generation.SHARED, generation.QUEUED)
    assert row["spread"] >= 1 and ("ratio" in row) == has_peer
    assert row["mfu"] is None and row["bandwidth"] is None  # a CPU's peaks are not known
  assert found["peak_bytes"] > 2**20
  said = capsys.readouterr().out
  assert all(name in said for name in NAMES)


def test_a_choice_of_cases_is_measured(directory, tmp_path):
  path = tmp_path / "bench.json"
  run(f"--model={directory}", *ARGUMENTS, "--cases=batch 3,mixed", f"--json={path}")
  assert [row["name"] for row in json.loads(path.read_text())["cases"]] == NAMES[1:4]
  with pytest.raises(SystemExit, match=r"no case has 'kto' in its name; there are .*'sft'.*'dpo'"):
    run(f"--model={directory}", *ARGUMENTS, "--cases=sft,kto")


@pytest.mark.parametrize(
  ("asked", "platform", "wanted"),
  [
    ((), "cpu", ("float32", "xla")),
    (("--dtype=bfloat16",), "cpu", ("bfloat16", "xla")),
    (("--attention=splash",), "cpu", ("float32", "splash_interpreted")),
    ((), "gpu", ("bfloat16", "cudnn")),
    (("--dtype=float32",), "gpu", ("float32", "xla")),
    (("--attention=xla",), "gpu", ("bfloat16", "xla")),
    ((), "tpu", ("bfloat16", "splash")),
  ],
)
def test_models_compute_as_those_of_a_run_on_such_devices(
  directory, monkeypatch, asked, platform, wanted
):
  devices = [types.SimpleNamespace(platform=platform)]
  shape = dataclasses.replace(families.read(directory), head_width=8)  # which cuDNN takes
  monkeypatch.setattr(hf, "read", lambda _: shape)
  monkeypatch.setattr(jax, "devices", lambda *_: devices)
  monkeypatch.setattr(hf, "load", lambda *_: {})
  monkeypatch.setattr(pure, "complete", lambda *_: {})
  models = measuring._models(bench._options([f"--model={directory}", *asked]))[:2]
  assert [(one.config.dtype, one.config.attention) for one in models] == [wanted] * 2


@pytest.mark.parametrize("asked", [(), ("--dtype=bfloat16", "--attention=splash")])
def test_dtype_and_attention_are_said(directory, tmp_path, capsys, asked):
  path = tmp_path / "bench.json"
  run(f"--model={directory}", *ARGUMENTS, "--cases=batch 1", *asked, f"--json={path}")
  found = json.loads(path.read_text())
  wanted = ("bfloat16", "splash_interpreted") if asked else ("float32", "xla")
  assert (found["dtype"], found["attention"]) == wanted
  assert f"{wanted[0]}, attention {wanted[1]};" in " ".join(capsys.readouterr().out.split())
  with pytest.raises(SystemExit, match="'cudnn' is a kernel for devices of the platform 'gpu'"):
    run(f"--model={directory}", *ARGUMENTS, "--dtype=bfloat16", "--attention=cudnn")


@compiles
def test_adapters_are_trained_on_a_frozen_base(directory, tmp_path, monkeypatch):
  start, states = cases.training_step.init_state, []
  monkeypatch.setattr(
    cases.training_step,
    "init_state",
    lambda params, optimizer: states.append(params) or start(params, optimizer),
  )
  path = tmp_path / "bench.json"
  run(
    f"--model={directory}", *ARGUMENTS, "--cases=ppo", "--rank=2", "--remat=dots", f"--json={path}"
  )
  found = json.loads(path.read_text())
  assert [row["name"] for row in found["cases"]] == NAMES[-1:]
  assert (found["rank"], found["remat"]) == (2, "dots")
  (trained,) = (pure.named(state) for state in states)
  own = {"value.head", "value.bias"}
  assert own < trained.keys() and all(".adapters." in name for name in trained.keys() - own)


@pytest.mark.parametrize(
  "asked", ["--batches=x", "--batches=", "--batches=1,0", "--repeats=0", "--rows=-1", "--mixed=1.5"]
)
def test_what_is_no_number_of_things_is_refused(directory, asked):
  flag, _, _ = asked.partition("=")
  with pytest.raises(SystemExit, match=f"argument {flag}: .* is not allowed; use a whole number"):
    run(f"--model={directory}", asked)


def test_a_peer_that_is_not_installed_is_named_with_its_extra(directory, monkeypatch):
  monkeypatch.setitem(sys.modules, "torch", None)
  with pytest.raises(SystemExit, match=r"torch is not installed; .*pit_jax\[parity\]"):
    run(f"--model={directory}", *ARGUMENTS, "--cases=batch 1", "--peer")


def test_preferences_are_tokenised(directory, tmp_path):
  source, path = tmp_path / "some.jsonl", tmp_path / "bench.json"
  rows = [{"prompt": f"{n} ?", "chosen": "some words", "rejected": "some"} for n in range(3)]
  source.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"prompt": "no more"}]))
  asked = (f"--model={directory}", *ARGUMENTS, f"--source=jsonl:{source}", "--cases=tokenise")
  run(*asked, f"--json={path}")
  (row,) = json.loads(path.read_text())["cases"]
  assert row["unit"] == "pairs" and row["per_second"] == pytest.approx(3 / row["seconds"])


@compiles
def test_every_token_is_generated_and_calls_after_the_first_compile_nothing(caplog):
  model = tiny.language(vocabulary=300)
  params = jax.device_put(tiny.parameters(model, seed=1), jax.devices()[0])
  sizes = generation.Sizes(batches=(1, 3), prompt=4, response=5, rows=2, mixed=3)
  generating = 0
  for case in cases.cases(model, pure.scalar_model(model.config), params, sizes):
    call = case.start()
    with jax.log_compiles():
      call()
      first, _ = caplog.text, caplog.clear()
      made = call()
    assert "XLA compilation" in first or case.name == "lay out weights"  # a start has done so
    assert "XLA compilation" not in caplog.text, case.name
    caplog.clear()
    if case.name.startswith("generate"):
      assert made.responses.mask.sum() == case.amount
      generating += 1
  assert generating == 4


def test_mixed_lengths_spread_evenly_on_a_logarithmic_scale():
  prompts, responses = generation.Sizes(prompt=64, response=64, mixed=64).ragged()
  for lengths, low in ((np.array(prompts), 8), (np.array(responses), 4)):
    assert (lengths.min(), lengths.max()) == (low, 256)
    octaves = np.histogram(np.log2(lengths), bins=np.arange(np.log2(low), 9) - 1e-6)[0]
    assert octaves.max() - octaves[:-1].min() <= 4
    assert np.any(np.diff(lengths) < 0)  # in no order


def test_calls_alternate_and_medians_are_compared(monkeypatch):
  clock, order = [0.0], []
  monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

  def case(seconds):
    times = iter([100.0, *seconds])  # the first call compiles

    def call():
      order.append(seconds[0])
      clock[0] += next(times)

    return timing.Case("x", 30, lambda: call, costs.Cost(flops=60.0, bytes=12.0))

  ours, theirs = case([1.0, 5.0, 3.0]), case([6.0, 2.0, 9.0])
  (row,) = timing.measure([ours], {"x": theirs}, repeats=3, peak=costs.Peak(100.0, 8.0, 1, 1.0))
  assert order == [1.0, 6.0] * 4
  assert row == {
    "name": "x",
    "unit": "tokens",
    "per_second": 10.0,
    "seconds": 3.0,
    "spread": 5.0,
    "mfu": 0.2,  # 60 operations in 3 seconds where 100 are possible in one
    "bandwidth": 0.5,
    "peer_per_second": 5.0,
    "ratio": 2.0,
  }


@pytest.mark.parametrize(
  "number, words",
  [
    (None, "·"),
    (1.537, "1.54"),
    (0.0625, "0.0625"),
    (20, "20.0"),
    (99.96, "100"),
    (12_345.6, "12,346"),
  ],
)
def test_slow_rates_have_three_digits(number, words):
  assert timing.rate(number) == words


@compiles
@pytest.mark.parity
def test_the_peer_does_the_same_work(directory, tmp_path):
  pytest.importorskip("torch", reason="torch is absent; install the extra `parity`")
  chosen = "--cases=generate,sft,dpo,lay out"  # what has a peer, and one that has none
  run(f"--model={directory}", "--peer", *ARGUMENTS, chosen, f"--json={tmp_path / 'bench.json'}")
  rows = json.loads((tmp_path / "bench.json").read_text())["cases"]
  assert [row["name"] for row in rows] == [*NAMES[:4], "lay out weights", "sft", "dpo"]
  assert [row["name"] for row in rows if "ratio" in row] == [*NAMES[:4], "sft", "dpo"]


@compiles
@pytest.mark.parity
@pytest.mark.parametrize("rank", [0, 2])
def test_trl_trains_what_we_do_on_pairs_of_the_same_lengths(directory, rank):
  torch = pytest.importorskip("torch", reason="torch is absent; install the extra `parity`")
  from pit_jax.tools.bench import peers

  sizes = generation.Sizes(batches=(), prompt=4, response=5, rows=2, mixed=4)
  case = peers.peers(str(directory), sizes, rank, is_remat=True)["dpo"]
  steps = []
  with mock.patch.object(torch.optim.AdamW, "step", lambda optimizer, *_: steps.append(optimizer)):
    case.start()()
  (optimizer,) = steps
  shapes = {tuple(leaf.shape) for group in optimizer.param_groups for leaf in group["params"]}
  # Adapters alone are narrow; without them the table of embeddings is trained.
  assert ((300, tiny.SHAPE["width"]) in shapes) == (not rank)
  assert all(2 in shape for shape in shapes) or not rank
  assert case.amount == 2 * (4 + 2 * 5)


@compiles
def test_the_reference_of_pairs_is_asked_before_the_steps():
  """Its log-probabilities are columns, so no step is given a second model."""
  model = tiny.language(vocabulary=300)
  params = jax.device_put(tiny.parameters(model, seed=1), jax.devices()[0])
  sizes = generation.Sizes(batches=(), prompt=4, response=5, rows=2, mixed=3)
  given = []

  def stepping(*_, **__):
    def step(state, frozen, batch, *_):  # traced: the names and the structure are what is asked
      given.append((frozen, {*batch.columns}))
      return state, {}

    return step

  with mock.patch.object(cases.training_step, "make_train_step", stepping):
    made = cases.cases(model, pure.scalar_model(model.config), params, sizes)
  (case,) = (case for case in made if case.name == "dpo")
  case.start()()
  assert given == [({"base": {}}, {"reference_chosen", "reference_rejected"})]


def test_memory_is_measured_in_a_process_of_its_own(directory, tmp_path, capsys, monkeypatch):
  asked = []

  def alone(function, *given):
    asked.append((function, *given[1:]))
    return 2**30

  monkeypatch.setattr(timing, "in_own_process", alone)
  monkeypatch.setattr(measuring, "_peers", lambda *_: {NAMES[0]: one_second()})
  path = tmp_path / "bench.json"
  chosen = ("--cases=batch 1,lay out", "--memory", "--peer", f"--json={path}")
  run(f"--model={directory}", *ARGUMENTS, *chosen)
  names = [(NAMES[0], False), (NAMES[0], True), ("lay out weights", False)]
  assert asked == [(measuring.peak_alone, *one) for one in names]
  first, other = json.loads(path.read_text())["cases"]
  assert first["peak_bytes"] == first["peer_peak_bytes"] == 2**30 and first["memory_ratio"] == 1
  assert other["peak_bytes"] == 2**30 and "memory_ratio" not in other
  assert "1.00 GiB" in capsys.readouterr().out


def one_second():
  return timing.Case("x", 1, lambda: lambda: None)


def test_a_process_of_its_own_holds_nothing_of_ours():
  ours = np.ones(2**27)  # 1 GiB
  assert timing.peak_bytes() > ours.nbytes > timing.in_own_process(timing.peak_bytes)


@compiles
def test_a_case_alone_trains_the_parameters_themselves(directory):
  given = bench._options([f"--model={directory}", *ARGUMENTS])
  kept = []
  first = cases.training_step.init_state
  with mock.patch.object(
    cases.training_step, "init_state", lambda *asked: kept.append(asked[0]) or first(*asked)
  ):
    assert measuring.peak_alone(given, "sft", False) > 2**20
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(kept[0]))


@compiles
@pytest.mark.parity
def test_the_peer_generates_the_same_tokens(directory):
  pytest.importorskip("torch", reason="torch is absent; install the extra `parity`")
  from pit_jax.tools.bench import peers

  sizes = generation.Sizes(batches=(), prompt=4, response=5, rows=2, mixed=4)
  model = pure.language_model(families.read(directory))
  params = hf.load(directory, model)
  ours = cases.cases(model, pure.scalar_model(model.config), params, sizes)[0]
  there = peers.peers(str(directory), sizes)
  assert {*there} == {ours.name, "sft", "dpo"}
  theirs = there[ours.name]
  assert ours.amount == theirs.amount
  responses, said = ours.start()().responses, theirs.start()().numpy()
  for tokens, mask, row in zip(responses.tokens, responses.mask, said[:, 16:]):
    np.testing.assert_array_equal(tokens[mask], row[: mask.sum()])


def test_a_missing_model_is_named(tmp_path):
  with pytest.raises(SystemExit, match=r"absent is no directory; give one with a config"):
    run(f"--model={tmp_path / 'absent'}")
