"""A results dict as a full run hands it to the report, and smaller ones."""

import ledger_example
import numpy as np

from pit_jax.evaluate.experiments import frontier as frontiers
from pit_jax.recipes import pit
from pit_jax.statistics import agreement as agreements
from pit_jax.statistics import candidates, lengths, margins, metrics, ratings, significance
from pit_jax.statistics import frontiers as bends

METHOD, POOLED = pit.RECIPE.page, pit.RECIPE.pooled
GOLD = {
  "policy_sft": 5.6,
  "original": 7.1,
  "policy_resampled": 7.1,
  "rlhf_longer": 7.3,
  "improver_sft": 7.0,
  "pit": 8.4,
  "pit_first_only": 7.8,
  "pit_second_only": 7.6,
}
TOKENS = {name: 70 + 3.3 * index for index, name in enumerate(GOLD)}
STAGES = {
  "sft_policy": ("sft", 400),
  "sft_improver": ("sft", 400),
  "reward": ("reward", 250),
  "gap_reward": ("gap_reward", 400),
  "rl_policy": ("rl", 120),
  "pit_data": ("rl", 120),
  "pit_policy": ("rl", 120),
  "pit_first_only_data": ("rl", 240),
}


def checks(score):
  return {"answer": score / 10, "working": 1.0, "malformed": 0.0}


def comparison(generator, a, b, judge="gold", shift=0.0, **more):
  n = 640
  better = generator.normal(GOLD[a] - GOLD[b] + shift, 2.0, n).round()
  row = metrics.compare(better, np.zeros(n), resamples=500)
  return {"a": a, "b": b, "judge": judge, "temperature": 1.0, **vars(row), **more}


def comparisons(generator):
  rows = [
    comparison(generator, system, "original", judge, shift)
    for system in ("pit", "improver_sft", "pit_first_only", "pit_second_only", "rlhf_longer")
    for judge, shift in (("gold", 0), ("R_P", 0.2), ("R_PIT", 0.5))
  ]
  rows += [comparison(generator, "original", "policy_sft", judge) for judge in ("gold", "R_P")]
  rows += [
    comparison(generator, "policy_resampled", "original", judge) for judge in ("gold", "R_P")
  ]
  rows += [
    comparison(generator, "pit", other)
    for other in ("improver_sft", "pit_first_only", "pit_second_only", "rlhf_longer")
  ]
  return [*rows, comparison(generator, "pit", "original", temperature=0.4)]


def rounds(generator):
  none = {"delta": 0.0, "ci95": (0.0, 0.0), "delta_stop": 0.0, "ci95_stop": (0.0, 0.0)}
  rows = [{"k": 0, "score": 7.1, "stopped": 0.0, "score_stop": 7.1, "tokens": 80.0, **none}]
  for k, (free, kept) in enumerate(((35, 36), (34, 42), (30, 44), (28, 45), (25, 45)), start=1):
    rows.append({
      "k": k, "score": 7.1 + free / 30, "delta": float(free), "ci95": (free - 5.0, free + 5.0),
      "stopped": 1 - 0.6**k, "score_stop": 7.1 + kept / 30, "delta_stop": float(kept),
      "ci95_stop": (kept - 4.8, kept + 4.8), "tokens": 80.0 + 60 * k + generator.random(),
    })  # fmt: skip
  return rows


def curve(generator, start, end, steps):
  at = np.linspace(0, steps, 40).round()
  values = start + (end - start) * (1 - np.exp(-3 * at / steps))
  return [
    [int(step), float(v)]
    for step, v in zip(at, values + generator.normal(0, 0.04, 40), strict=True)
  ]


def rated(generator):
  """Original and three rounds, each round a little better than the one before it."""
  players = {name: generator.normal(7 + 0.4 * k, 2, 120).round()
             for k, name in enumerate(("original", "pit 1", "pit 2", "pit 3"))}  # fmt: skip
  names = list(players)
  outcomes = {(a, b): np.sign(players[a] - players[b])
              for i, a in enumerate(names) for b in names[i + 1:]}  # fmt: skip
  rows = ratings.rate(outcomes, resamples=10)
  return [{"judge": "gold", "games": 3 * 120, **vars(row)} for row in rows]


def agreement(generator):
  first = generator.integers(-1, 2, (4, 300))
  second = np.where(generator.random((4, 300)) < 0.6, first, 1)
  return [
    {"judges": ["gold", "R_P"], "of": of, **vars(agreements.compare(first[part], second[part]))}
    for of, part in (("pit over original", slice(1)), ("all comparisons", slice(4)))
  ]


def length(generator):
  rows = []
  for a, b in (("pit", "original"), ("original", "policy_sft")):
    outcomes, tokens = generator.integers(-1, 2, 300), generator.integers(20, 30, (2, 300))
    controlled = vars(lengths.controlled(outcomes, *tokens, resamples=50))
    row = {
      "a": a,
      "b": b,
      "judge": "gold",
      "n": 300,
      "tokens": float((tokens[0] - tokens[1]).mean()),
    }
    plain = metrics.compare(outcomes, 0 * outcomes, resamples=50)
    row |= {"delta": plain.delta, "ci95": plain.ci95, "controlled": controlled}
    matched = {"n": 90, "delta": plain.delta, "ci95": plain.ci95}
    rows.append({**row, "matched": matched if a == "pit" else None})
  correlations = [
    {"system": system, "judge": judge, "correlation": 0.21, "ci95": (0.13, 0.29)}
    for system in ("original", "pit")
    for judge in ("gold", "R_P")
  ]
  return {"comparisons": rows, "correlations": correlations}


def gap(generator):
  pairs = {}
  for name, slope in (("the data's pairs", 1.0), ("y_1 against y_0", 0.6)):
    margin = generator.normal(1, 2, 400)
    labels = generator.random(400) < 1 / (1 + np.exp(-slope * margin))
    pairs[name] = {
      **margins.describe(margin, labels), "groups": margins.by_size(margin, labels)
    }  # fmt: skip
  return {"judge": "gold", "pairs": pairs}


def cost(generator):
  rows = []
  for system, best in (
    ("pit", 1.2),
    ("pit_stop", 1.5),
    ("best_of_n", 0.6),
    ("gap_tournament", 0.5),
  ):
    for n in range(1, 6):
      used = 1 + (n - 1) * (0.8 if system == "pit_stop" else 1.0)
      compared = comparison(generator, "pit" if n > 1 else "original", "original")
      score = 7.1 + best * (1 - 0.5 ** (n - 1))
      row = {"system": system, "budget": n, "judge": "gold", "score": score}
      row |= {"tokens": 26 * used, "samples": used, "reads": float(n)}
      row |= {key: compared[key] for key in ("n", "win", "lose", "tie", "delta", "ci95")}
      row["gain"] = 100 * (score - 7.1) / (26 * used - 26) if n > 1 else None
      rows.append(row | ({"kl_bound": candidates.kl_bound(n)} if "pit" not in system else {}))
  return rows


def ablation(generator):
  rows = []
  for system, order in (("pit", 0.8), ("pit_single_term", 0.5), ("pit_rp_difference", 0.86)):
    compared = comparison(generator, "pit", "original")
    row = {"system": system, "accuracy": 0.86, "order": order, "zero_point": -0.6, "spread": 0.4}
    row |= {f"{name}_stop": compared[name] for name in ("n", "win", "lose", "tie", "delta", "ci95")}
    row |= {"sign_agreement": {"fraction": 0.79, "n": 500}, "stopped": 0.7, "score_stop": 8.1}
    rows.append(row | {"own_sign_agreement": {"fraction": 0.74, "n": 480}})
  return rows


def stop():
  """Two rounds, of which the rules keep other shares."""
  rows = []
  for rule, worse, better, identical in (
    ("both_orders", 3, 95, 0), ("draft_zero", 5, 93, 0), ("zero_point", 28, 97, 38),
  ):  # fmt: skip
    counts = {"better": 100, "better_kept": better, "equal": 40, "equal_kept": 17}
    counts |= {"worse": 110, "worse_kept": worse, "identical": 50, "identical_kept": identical}
    rows += [
      {"rule": rule, "margin": margin, "k": k, **counts} for k in (1, 2) for margin in (0.0, 0.5)
    ]
  return {"judge": "gold", "rows": rows}


def frontier(generator):
  """A policy whose judge falls while its proxy rises, and an improver whose judge rises too."""
  chains = []
  for name, proxy, judge in (("policy", "R_P", (5, 6, 7, 6)), ("improver", "R_PIT", (6, 7, 8, 8))):
    means = {"kl": (0, 1, 4, 9), "proxy": (0, 0.5, 0.9, 1.4), "judge": judge}
    known = {
      key: bends.moments(np.array(values)[:, None] + 0.5 * generator.normal(size=(4, 80)))
      for key, values in means.items()
    }
    points = [{"stage": f"rl_{name}", "step": 10 * k} for k in range(4)]
    chains.append(frontiers.describe(name, proxy, points, known))
  return {"judge": "gold", "chains": chains}


def stages(generator):
  made = {}
  for name, (kind, steps) in STAGES.items():
    made[name] = {"kind": kind, "steps": steps, "curve": {}}
    if kind == "rl":
      made[name]["curve"]["objective/score"] = curve(generator, 0, 1.6, steps)
      made[name]["curve"]["objective/kl"] = curve(generator, 0, 4.4, steps)
      made[name]["validation"] = {"objective/kl": [[steps, 4.2]]}
    else:
      made[name]["curve"]["train/loss"] = curve(generator, 2.2, 0.7, steps)
  return made


def answers():
  """The headline's answers to four prompts."""
  texts = {"original": "Hello Leo, it is Ash.", "pit": "Hello Leo, it is Elm."}
  ranks = {"best": 8.0, "median": 2.0, "worst": -6.0, "typical": 3.0}
  return [
    {
      "rank": rank, "prompt": f"which street gets call {place} ?", "judge": "gold",
      "change": change, "improved": 400,
      "answers": [
        {"system": name, "text": text, "score": 7.0 + change * (name == "pit"), "tokens": 6}
        for name, text in texts.items()
      ],
    }
    for place, (rank, change) in enumerate(ranks.items())
  ]  # fmt: skip


def curriculum():
  return [
    {"name": "data", "references": ["dataset.rejected", "dataset.chosen"]},
    {"name": "policy", "references": ["policy"]},
  ]


def temperatures():
  return [
    {"t": t, "system": system, "score": GOLD[system] + 0.8 * (1 - t) - (t - 0.5) ** 2}
    | ({"delta": 30 + 8 * t} if system == "pit" else {})
    for t in (0.2, 0.4, 0.6, 0.8, 1.0)
    for system in ("original", "pit")
  ]


def example() -> dict:
  """What a full run of recipe pit on the embedded task hands to the report."""
  generator = np.random.default_rng(0)
  gaps = {name: generator.normal(mean, 1.1, 500)
          for name, mean in (("wl", 1.9), ("ww", 0.1), ("ll", -0.2), ("lw", -2.1))}  # fmt: skip
  compared = significance.annotate(comparisons(generator))
  return {
    "recipe": "pit",
    "headline": ["pit", "original"],
    "controls": ["policy_resampled"],
    "seconds": {name: 14.0 + 9 * index for index, name in enumerate(STAGES)} | {"evaluation": 71.5},
    "systems": {
      name: {"score": GOLD[name], "tokens": TOKENS[name], "checks": checks(GOLD[name])}
      for name in GOLD
    },
    "comparisons": compared,
    "power": significance.power(compared[0]),
    "agreement": agreement(generator),
    "ratings": rated(generator),
    "length": length(generator),
    "gap": gap(generator),
    "cost": cost(generator),
    "ablation": ablation(np.random.default_rng(1)),
    "stop": stop(),
    "frontier": frontier(np.random.default_rng(2)),
    "gap_order": metrics.gap_order(**gaps) | {"histogram": gaps},
    "rounds": rounds(generator),
    "temperature": temperatures(),
    "stages": stages(generator),
    "speeds": {name: {"tokens_per_second": 41250.2, "mfu": 0.382} for name in STAGES},
    "reward_models": {
      "R_P": {"accuracy": 0.842, "accuracy_gold": 0.917, "ece": 0.021, "gain": 0.61, "shift": -0.2},
      "R_PIT": {"accuracy": 0.861, "accuracy_gold": 0.934, "ece": 0.033, "gain": 0.48, "shift": 0.1,
                "zero_point": -0.051, "sign_agreement": {"fraction": 0.812, "n": 533}},
    },
    "data": {"source": "synthetic", "rows": 24000, "cut": 0, "dropped": 12, "tokenizer": "5f1c9e",
             "folds": {"sft": 7800, "reward": 7744, "rl": 7816, "held_out": 640},
             "skipped": {"chosen equals rejected": 3}, "template_hash": "9b0d7c11aa52e3f0"},
    "ledger": ledger_example.ledger(generator),
    "samples": ledger_example.samples(10),
    "answers": answers(),
    "made": {
      "date": "2026-11-28 21:36 UTC",
      "command": "pit train --config=pit:tiny --workdir=runs/tiny",
      "commit": "1e17bc2a4f0c",
      "devices": "1 × cpu with 2 cores",
    },
    "gate": {"passed": True, "reason": "original beats policy_sft under R_P and gold"},
    "config": {"seed": 0, "curriculum": curriculum(), "data": {"on_bad_row": "error"},
               "ppo": {"clip": 0.2}},
    "notes": ["One seed: the intervals are over prompts, not over training runs."],
  }  # fmt: skip


def real_data() -> dict:
  """A run on dialogues: no gold, and nothing optional but notes."""
  generator = np.random.default_rng(1)
  full = example()
  rows = [comparison(generator, "pit", "original", judge) for judge in ("R_P", "R_PIT")]
  rows += [comparison(generator, "original", "policy_sft", "R_P")]
  return {
    "recipe": "pit",
    "headline": ["pit", "original"],
    "seconds": full["seconds"],
    "systems": {name: {"score": None, "tokens": TOKENS[name]} for name in ("original", "pit")},
    "comparisons": rows,
    "notes": ["No gold score for this source: R_P and R_PIT are not independent of training."],
  }


def closed_gate() -> dict:
  """The same run with a policy that RLHF did not better."""
  results = example()
  del results["gate"]
  for row in results["comparisons"]:
    if (row["a"], row["b"]) == ("original", "policy_sft"):
      row.update(win=40.0, lose=43.0, delta=-3.0, ci95=(-7.0, 1.0))
  return results
