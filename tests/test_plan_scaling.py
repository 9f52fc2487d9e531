"""How costs grow by length and by chips: what is planned, and what is named."""

import pytest

from pit_jax.commands import plan
from pit_jax.configs import pit
from pit_jax.report import palette
from pit_jax.tools.plan import scaling


def row(program, flops=1e12, activations=2**30, error=None):
  """Returns a program's row as a plan has it."""
  return {
    "stage": "sft", "program": program, "flops": flops, "bytes": 1e9, "sent": {"all-gather": 1e9},
    "memory": {"activations": activations, "cache": 0}, "seconds": 0.5, "error": error,
    "largest": [(2**30, f"f32[{activations}]", "dot")],
  }  # fmt: skip


def points():
  """Three lengths: operations of one program grow by the square, memory of another by 1.5."""
  found = []
  for n in (1, 4, 16):
    refused = "too large" if n == 16 else None
    squared = row("squared", n**2 * 1e12, n * 2**30)
    found.append(scaling.Point(n, [squared, row("heavy", n * 1e12, n**1.5 * 2**30, refused)]))
  return found


def test_every_chip_has_a_row_of_the_length():
  config = pit.get_config("1b")
  made = scaling.sized(config, 4097, 32)
  assert (made.data.max_prompt_length, made.data.max_response_length) == (2049, 2048)
  assert made.inference_batch_size == made.sft.batch_size == made.gap_reward.batch_size == 32
  # Of RL a minibatch has a row for each.
  assert made.rl.batch_size == 32 * config.rl.minibatches and made.rl.accumulation == 1
  assert config.data.max_prompt_length == 1024, "the configuration itself stays"


def test_powers_are_those_of_the_growth_where_it_is_known():
  found = {(one.program, one.quantity): one for one in scaling.grown(points())}
  assert found["squared", "operations"].power == pytest.approx(2.0)
  assert found["squared", "working memory"].power == pytest.approx(1.0)
  assert found["heavy", "working memory"].power == pytest.approx(1.5), "of the two that fit"
  assert found["heavy", "operations"].values == (1.0, 4.0, None)
  assert found["squared", "time"].power == pytest.approx(0.0)
  alone = scaling.grown(points()[:1])
  assert {one.power for one in alone} == {None}


def test_what_grows_faster_than_the_work_is_named_with_its_largest_arrays():
  faster = [(one.program, one.quantity) for one in scaling.faster(scaling.grown(points()), 1)]
  assert faster == [("squared", "operations"), ("heavy", "working memory")]
  told = scaling.write("pit:1b", "tokens", points(), 1)
  assert "Faster than the work, which grows by a power of 1: 2" in told
  assert "  working memory of heavy in sft: 1.50\n    1.00 GiB f32[8589934592.0]" in told
  assert "does not fit" in told
  assert max(map(len, told.splitlines())) <= 80
  # By chips the work of each is the same.
  assert len(scaling.faster(scaling.grown(points()), 0)) == 4


def test_nothing_is_said_of_memory_that_is_a_matter_of_rounding():
  small = [scaling.Point(n, [row("step", activations=n**2 * 2**10)]) for n in (1, 8)]
  memory = next(one for one in scaling.grown(small) if one.quantity == "working memory")
  assert memory.power == 0.0


def test_a_line_for_each_program_is_drawn():
  for is_wide in (True, False):
    figure = scaling.draw("tokens", points(), is_wide)
    lines = {line.get_label() for axes in figure.axes for line in axes.get_lines()}
    assert lines == {"sft: squared", "sft: heavy"}
    scales = {axes.get_title(loc="left"): axes.get_yscale() for axes in figure.axes}
    assert (scales["operations, TFLOP"], scales["time, s"]) == ("log", "linear")
    drawn = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in drawn][:2] == ["operations, TFLOP", "bytes, GB"]
  assert len({*scaling.TINTS}) == len(scaling.TINTS) >= 8 and palette.BLUE in scaling.TINTS


@pytest.mark.parametrize(
  ("flags", "said"),
  [
    (["--scaling", "--lengths=1024"], "--scaling: nothing grows at one point; give two --lengths"),
    (["--scaling", "--suggest"], "--scaling and --suggest plan different runs"),
    (["--scaling", "--lengths=4096,1024"], "give each length once, the shortest first"),
    (["--scaling", "--lengths=1"], "use a whole number, 2 or more"),
    (["--scaling", "--topologies=v5e:8x8,h100"], "--topologies=h100 is no topology of TPUs"),
    (
      ["--scaling", "--topologies=v5e:8x8,2*v6e:8x8"],
      "--topologies: v5e and v6e differ in more than their number; name one kind",
    ),
  ],
)
def test_what_cannot_be_planned_is_refused(flags, said, capsys):
  with pytest.raises(SystemExit) as ended:
    plan.main(["--config=pit:1b", "--topology=v5e:8x8", *flags])
  assert said in f"{ended.value} {capsys.readouterr().err}"
