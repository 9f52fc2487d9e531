"""What the report says of learning from demonstrations: arms, pipeline, figures, claims."""

from collections.abc import Mapping, Sequence

from pit_jax.report import cells, claims, diagram, palette, presentation, tabular, verdict

SFT = presentation.System("fine-tuned on the demonstrations", "#94a3ba")
SFT_LONGER = presentation.System("fine-tuned on them for longer", palette.PURPLE)
WORKS_FIRST = "works_first"
STILL = 5.0  # points by which a share of letters may move that is said to stay


def table(results: Mapping) -> cells.Table:
  """Every arm with what it answers, in which order, and how likely it finds demonstrations."""
  rows = [{**results["systems"].get(row["system"], {}), **row}
          for row in results.get("demonstrations", ())]  # fmt: skip

  def check(name):
    return lambda row: cells.percent(row.get("checks", {}).get(name))

  columns = cells.columns({
    "arm": "system", f"{verdict.score_judge(results)} score": lambda row: cells.fixed(row["score"]),
    "answers right": check("answer"),
    "working first": lambda row: cells.percent(row.get(f"score_{WORKS_FIRST}")),
    "malformed": check("malformed"),
    "NLL": lambda row: cells.fixed(row["nll"]),
    "rise": lambda row: cells.signed(row["rise"], row.get("ci95")),
    "95% interval": lambda row: cells.interval(row.get("ci95")),
  })  # fmt: skip
  note = (
    "NLL is the mean −log p of the demonstrations that no stage learns from, in nats each, without "
    "their end; rise is by how much more that is than for sft, with an interval over them."
  )
  return cells.select("demonstrations", "Arms, and the demonstrations", rows, columns, note=note)


def start(results: Mapping) -> diagram.Box:
  """Returns the box of the policy that all arms begin with."""
  return diagram.Box(("sft", "imitates the expert", *diagram.effort(results, "sft")))


def compared(results: Mapping, system: str, about: str = "") -> diagram.Box:
  """Returns the box in which a system ends: what it is, and with whom it is compared."""
  others = dict.fromkeys(row["b"] for row in results["comparisons"] if row["a"] == system)
  return diagram.Box((system, *filter(None, [about]), f"compared with {', '.join(others)}"))


def efforts(results: Mapping, names: Sequence[str]) -> str:
  """Returns the steps of stages that follow each other, together, in words; "" of none."""
  stages = [results["stages"][name] for name in names if name in results.get("stages", {})]
  steps = sum(stage["steps"] for stage in stages)
  return f"{steps:,} steps" if steps else ""


def _blocks(results: Mapping, system: str) -> list[str]:
  """Returns the stages of the blocks of an arm that were trained, in order."""
  names = [name for name in results.get("stages", {}) if name.startswith(f"{system}_")]
  return [name for name in names if name.removeprefix(f"{system}_").isdigit()]


def pipeline(results: Mapping) -> list[diagram.Column]:
  """Returns the chain of the blocks, and what it is compared with, which all begin with sft."""
  blocks = _blocks(results, "irft")
  if not blocks:
    return []
  fixed = efforts(results, _blocks(results, "irft_fixed"))
  lines = {
    "sft_longer": ("imitates for longer", efforts(results, ["sft_longer"])),
    "spin": ("one block of all prompts", efforts(results, ["spin"])),
    "irft_fixed": ("blocks, samples of sft alone", fixed),
  }
  controls = [f"{name}: {', '.join(filter(None, said))}" for name, said in lines.items()]
  each = f"DPO of demonstrations over fresh samples, {len(blocks)} times"
  method = diagram.Box(
    (f"{blocks[0]} … {blocks[-1]}", each, "from and against the one before",
     efforts(results, blocks))
  )  # fmt: skip

  chains = [[start(results)], [diagram.Box(("sft", "the same for all"))]]
  trained = [[method], [diagram.Box(("controls, each from sft", *controls))]]
  ends = [[compared(results, "irft")], [diagram.Box(("compared", "with sft, and with irft"))]]
  rows = diagram.rows(results, results["stages"]["sft"].get("fold", ""))
  return [
    diagram.Column("Demonstrations", chains, rows),
    diagram.Column("Blocks of their prompts", trained),
    diagram.Column("Held out", ends, diagram.rows(results, "held_out")),
  ]


def together(results: Mapping) -> list[list[str]]:
  """Returns the blocks of both arms, as one: where the rule ended one, it had no more of them."""
  return [[*_blocks(results, "irft"), *_blocks(results, "irft_fixed")]]


def said(results: Mapping) -> tuple[Sequence[claims.Claim], str]:
  """Returns what the run says of the paper's order, and of the order of the letters."""
  stated = [
    claims.Stated("irft", "sft_longer", "blocks beat imitation for longer"),
    claims.Stated("irft", "spin", "samples that are renewed beat one block of as many steps"),
    claims.Stated(
      "irft", "sft",
      f"an implicit reward moves the share of letters that work first by {STILL:g} points at most",
      claims.EXPECTED, judge=WORKS_FIRST, at_most=(STILL, STILL),
    ),
  ]  # fmt: skip
  found, _ = claims.decide(claims.tests(results, stated, {}))
  return found, claims.remark(results) if found else ""


PAGE = presentation.Presentation(
  title="Learning from demonstrations, arXiv 2405.17888",
  systems={
    "irft": presentation.System("preferring demonstrations to samples, in blocks", palette.TEAL),
    "sft": SFT,
    "sft_longer": SFT_LONGER,
    "spin": presentation.System("the same in one block", palette.BLUE),
    "irft_fixed": presentation.System("the same on samples of sft alone", palette.RUST),
  },
  headlines={("irft", "sft"): ("Telling samples from demonstrations", "the imitating policy")},
  claims=said,
  diagram=pipeline,
  sections=(
    presentation.Section("Learning from demonstrations", (table,)),
    tabular.COMPARED,
    tabular.CERTAINTY,
    tabular.TRAINING,
  ),
  together=together,
)
