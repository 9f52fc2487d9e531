"""A ledger of self-improvement as a run of the embedded task leaves it."""

QUESTIONS = ("who gets the fifth call", "what does the week cost", "which bus is the last one home")
KINDS = (
  ("worse", (6.0, 7.0, 4.0, 1.0), "worse after round 2"),
  ("unchanged", (6.0, 6.0, 6.0, 6.0), "as good as the draft"),
  ("improved", (4.0, 9.0, 9.0, 2.0), "better than the draft"),
)


def samples(count):
  """Prompts in turn worse, unchanged and improved by the two rounds that were kept of three."""
  return [sample(index, *KINDS[index % len(KINDS)]) for index in range(count)]


def sample(index, outcome, scores, finding):
  first, other = ("ivy", "ned") if index % 2 else ("ned", "ivy")
  texts = [
    f"{first} gets the fifth call . sam calls mia , mia calls amy , amy calls leo .",
    f"{other} gets the fifth call . sam calls mia , mia calls amy and amy calls leo .",
    f"{other} gets the fifth call . sam calls mia , mia calls amy and amy calls leo .",
    f"well , {other} gets it .",
  ]
  rounds = [{"k": 0, "text": texts[0], "tokens": 16, "scores": {"gold": scores[0], "R_P": 0.4}}]
  for k in (1, 2, 3):
    known = {"gold": scores[k], "R_P": 0.4 + k}
    rounds.append({
      "k": k, "text": texts[k], "tokens": 16, "scores": known, "gap": 1.31 - 0.5 * k,
      "gap_to_draft": 1.31, "kl": 2.5, "is_kept": k < 3, "verdicts": {"gold": "tie", "R_P": "win"},
    })  # fmt: skip
  return {
    "prompt": f"sam starts phone chain {index} ; {QUESTIONS[index % len(QUESTIONS)]} ?",
    "judge": "gold", "outcome": outcome, "change": scores[2] - scores[0], "finding": finding,
    "worse_after": [2] if outcome == "worse" else [], "kept": 2, "stopped": 3,
    "chosen": texts[1], "rejected": texts[0], "rounds": rounds,
  }  # fmt: skip


def ledger(generator):
  rounds = [
    {"k": k, "kept": 640 // k, "win": 400 // k, "tie": 160 // k, "lose": 80 // k}
    | {"gap": generator.random(), "kl": 1 + generator.random(), "tokens": 16.0}
    for k in (1, 2, 3)
  ]
  counts = {"worse": 60, "unchanged": 100, "improved": 480, "regressions": 90}
  return {"judge": "gold", "prompts": 640, **counts, "rounds": rounds}
