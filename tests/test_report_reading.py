"""What a reader of the report finds: its numbers, its order, what to do, and how wide it is."""

import json
import re

import pytest
import report_example
from test_report import METHOD, read

from pit_jax.evaluate import findings
from pit_jax.recipes import pit
from pit_jax.recipes.pit import gate, round_tables
from pit_jax.report import advice, cells, pages, presentation


def number(text):
  return float(text.replace("−", "-").replace("+", "").replace(",", "").rstrip("%"))


def test_the_page_says_the_numbers_of_the_results(example_report):
  """What stands in its tables, read back, is results.json up to rounding."""
  path, page = example_report
  results = json.loads((path.parent / "results.json").read_text(encoding="utf-8"))
  head, *rows = page.tables["Comparisons"]
  told = [dict(zip(head, row, strict=True)) for row in rows]
  gold = [row for row in results["comparisons"] if row["judge"] == "gold"]
  assert len(told) == len([row for row in gold if row["a"] != "policy_resampled"])
  for row in told:
    (found,) = [
      other
      for other in gold
      if (other["a"], other["b"]) == (row["system"], row["against"])
      and other["temperature"] == float(row["T"])
    ]
    half = (found["ci95"][1] - found["ci95"][0]) / 2
    assert number(row["Δ %"]) == pytest.approx(found["delta"], abs=max(0.051, half / 10))
    low, high = map(number, row["95% interval"].split(" … "))
    assert [low, high] == pytest.approx(found["ci95"], abs=max(0.051, half / 10))
    for name in ("win", "tie", "lose"):
      assert number(row[f"{name} %"]) == pytest.approx(found[name], abs=0.051)
    assert number(row["prompts"]) == found["n"]

  head, *rows = page.tables["Systems"]
  for row in (dict(zip(head, row, strict=True)) for row in rows):
    found = results["systems"][row["system"]]
    assert number(row["gold score"]) == pytest.approx(found["score"], abs=0.0051)
    assert number(row["tokens"]) == pytest.approx(found["tokens"], abs=0.051)
  head, *rows = page.tables["Rounds"]
  for row, found in zip(rows, results["rounds"], strict=True):
    assert number(row[1]) == pytest.approx(found["score"], abs=0.0051)
    assert number(row[2]) == pytest.approx(found["delta"], abs=0.51)
  total = page.tables["Stages"][-1]
  assert total[-1] == cells.duration(sum(results["seconds"].values()))


def test_a_run_without_a_claim_says_what_to_do(tmp_path):
  results = report_example.closed_gate()
  stage = results["stages"]["rl_policy"]
  stage |= {"steps": 3, "section": "rl"}
  stage["curve"]["objective/kl"] = [[1, 0.0], [2, 0.0], [3, 0.02]]
  results["config"]["rl"] = {"value_warmup": 2}
  results["reward_models"]["R_P"]["accuracy"] = 0.52
  page = read(results, tmp_path)
  terminal = " ".join(pages.tables(results, METHOD).split())
  for text in (page.text.replace("RP", "R_P"), terminal):
    assert (
      "RL of the policy had 3 steps, of which 2 trained its value model alone: give it more by "
      "--config.rl.steps." in text
    )
    assert "hardly learnt" not in text, "what 1 update does says nothing of rate and β"
    assert "R_P is right on 52.0% of the pairs" in text
  assert "What to do" not in read(report_example.example(), tmp_path).text


def test_a_run_that_cannot_tell_says_how_many_prompts_would():
  results = pages.check(report_example.real_data())
  del results["notes"]
  for row in results["comparisons"]:
    row |= {"delta": 1.0, "ci95": [-6.0, 8.0], "detectable": 9.9, "win": 34.0, "lose": 33.0}
  (sentence,) = advice.of_run(results | {"recipe": "dpo"}, presentation.ANY)
  assert "640 prompts find a Δ of 9.9% in 80% of experiments" in sentence


def test_a_stage_of_the_curriculum_is_advised_by_its_own_keys():
  """Its rate, β and steps are the curriculum's, whose stages are one optimisation."""
  results = report_example.closed_gate()
  results["config"]["rl"] = {"value_warmup": 2}
  for index, name in enumerate(("pit_data", "pit_policy")):
    stage = results["stages"][name]
    stage |= {"steps": 4, "section": "rl", "part": f"curriculum[{index}]"}
    stage["curve"]["objective/kl"] = [[1, 0.0], [4, 0.01]] if index else [[1, 0.0], [4, 99.0]]
  said = " ".join(advice.of_run(results, METHOD))
  assert (
    "Stages pit_data and pit_policy had 8 steps, of which 2 trained their value model alone: give "
    "them more by --config.curriculum[0].steps and --config.curriculum[1].steps." in said
  )
  assert "too far to keep its language: raise --config.curriculum[0].kl_coefficient." in said
  assert "learning_rate" not in said
  results["stages"]["pit_policy"]["steps"] = 40
  said += " ".join(advice.of_run(results, METHOD))
  assert (
    "raise --config.curriculum[1].learning_rate, or lower --config.curriculum[1].kl_coefficient"
    in said
  )
  assert said.count("pit_policy had") == 1 and "--config.rl." not in said


def test_the_answers_come_before_the_tables_and_the_names_before_both(example_report):
  text = example_report[1].text
  order = ["One improved answer", "How it was made", "What the names mean", "Contents",
           "What the run says of the claims", "The best:", "The median:", "The worst:",
           "How the systems compare"]  # fmt: skip
  body = text[text.index("One improved answer") :]
  places = [body.index(words) for words in (*order[:4], *order[4:8])]
  assert places == sorted(places)
  assert body.rindex("How the systems compare") > places[-1]
  assert text.index("the improver after the curriculum") < text.rindex("How the systems compare")


def test_a_shut_gate_shows_no_answer_of_an_improver(tmp_path):
  page = read(report_example.closed_gate(), tmp_path)
  assert "One improved answer" not in page.text and "The best:" not in page.text


def test_the_time_of_a_run_is_one_number(tmp_path):
  results = report_example.example()
  results["goodput"] = {"sessions": 2, "seconds": 600.0, "kept": 300.0, "share": 0.5}
  page = read(results, tmp_path)
  assert "10 min 00 s with evaluation, 50.0% of it in steps that were kept" in page.text
  assert (
    "2 processes and 10 min 00 s by the clock, evaluation included: 2 min 44 s more" in page.text
  )


@pytest.mark.parametrize("width", [80, 100])
def test_no_line_of_the_terminal_is_wider_than_it(width):
  for results in (report_example.example(), report_example.closed_gate()):
    lines = pages.tables(results, METHOD, width).splitlines()
    assert max(map(len, lines)) <= width
  assert "…\n" not in "\n".join(lines)


def test_a_shut_gate_shows_what_the_policy_itself_writes(tmp_path):
  results = report_example.closed_gate()
  page = read(results, tmp_path)
  part = page.text[page.text.rindex("Answers of the policy itself") :]
  scores = sorted(sample["rounds"][0]["scores"]["gold"] for sample in results["samples"])
  for rank, score in (("Best", scores[-1]), ("Worst", scores[0])):
    assert f"{rank} by gold: {cells.fixed(score)}" in part
  drafts = gate.hold_back(results)["drafts"]
  assert [answer["rank"] for answer in drafts["answers"]] == ["best", "median", "worst"]
  for answer in drafts["answers"]:
    assert answer["text"] in part and f"{answer['tokens']} tokens" in part
  assert f"Of {len(results['samples'])} held-out prompts" in part
  later = {step["text"] for sample in results["samples"] for step in sample["rounds"][1:]}
  first = {sample["rounds"][0]["text"] for sample in results["samples"]}
  assert not {answer["text"] for answer in drafts["answers"]} & (later - first)
  assert "Its mean scores stay" in page.text
  opened = read(report_example.example(), tmp_path / "open")
  assert "Answers of the policy itself" not in opened.text


def test_one_sample_has_one_rank():
  drafts = gate.own_answers(report_example.example()["samples"][:1])
  assert [answer["rank"] for answer in drafts["answers"]] == ["best"] and drafts["prompts"] == 1


def test_notes_speak_of_the_columns_that_are_there(tmp_path):
  """A word on a column, a judge or a system that the page does not have sends readers looking."""
  results = report_example.closed_gate()
  for facts in results["reward_models"].values():
    facts.pop("accuracy_gold")
    facts.pop("sign_agreement", None)
  results["frontier"]["judge"] = None
  results["temperature"] = [row for row in results["temperature"] if row["t"] == 1.0]
  for stage in results["stages"].values():
    stage.pop("validation", None)
  page = read(results, tmp_path)
  for said in ("Δ is against it", "Δ is against original", "On gold:", "Sign is how", "Cut is how",
               "Gain is score per", "a judge that it does not", "Diamonds", "Other temperatures",
               "Δ of the improver that each reward trained"):  # fmt: skip
    assert said not in page.text, said
  for said in ("* with the stop rule", "The reward that training sees, over the KL", "Gain and "):
    assert said in page.text, said
  assert not (tmp_path / "report" / "temperature.png").exists()

  page = read(report_example.example(), tmp_path)
  for said in ("Δ is against it.", "Δ is against original.", "On gold:", "Sign is how",
               "Gain is score per", "a judge that it does not", "Diamonds", "Other temperatures",
               "Δ of pit is against original."):  # fmt: skip
    assert said in page.text, said
  assert (tmp_path / "report" / "temperature.png").exists()


def test_what_is_no_longer_drawn_is_no_longer_there(tmp_path):
  results = report_example.example()
  read(results, tmp_path)
  page = read(results | {"temperature": []}, tmp_path)
  assert not (tmp_path / "report" / "temperature.png").exists()
  assert "temperature.png" not in page.addresses


def test_a_price_without_quality_has_no_row():
  results = report_example.closed_gate()
  for row in results["cost"]:
    if row["system"] == "best_of_n":
      row |= {"judge": "R_PIT", "score": None, "gain": None}
  shown = gate.hold_back(results)
  table = round_tables.cost(shown)
  assert "best_of_n" not in {row[0] for row in table.rows} and len(table.rows) == 13
  assert "best_of_n has no row: only R_P could score it here, which chose it." in table.note
  assert "best_of_n takes" not in table.note and "gap_tournament takes" in table.note


def test_the_accuracy_of_few_pairs_is_told_with_their_number(tmp_path):
  results = report_example.example()
  for facts in results["reward_models"].values():
    facts |= {"accuracy": 1.0, "n": 8.0}
  page = read(results, tmp_path)
  head, first, _ = page.tables["Reward models"]
  told = dict(zip(head, first, strict=True))
  assert (told["on labels"], told["95% interval"], told["pairs"]) == ("100.0%", "67.6 … 100.0", "8")
  assert told["shift"] == "−0.20"
  assert "8 pairs are few" in page.text
  for facts in results["reward_models"].values():
    facts["n"] = 400.0
  assert "pairs are few" not in read(results, tmp_path).text


def test_files_of_one_name_are_told_apart(unrendered, tmp_path):
  for folder in ("samples", "metrics"):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "pit_data.jsonl").write_text("{}\n")
  path = pages.write(report_example.example(), tmp_path, METHOD)
  text = path.read_text(encoding="utf-8")
  for folder in ("samples", "metrics"):
    assert (
      f'<a href="../{folder}/pit_data.jsonl" download="pit_data.{folder}.jsonl">'
      f"{folder}/pit_data.jsonl</a>" in text
    )


def test_a_value_in_percent_has_its_unit():
  said = pages.tables(report_example.example(), METHOD)
  assert "prompts here find a Δ of" in said
  assert not re.search(r"Δ (=|of) [+−]?[0-9.]+(?![0-9.]*%)\b(?!\.?[0-9]*%)", said)


def test_a_handful_of_prompts_has_no_interval(tmp_path):
  """Two draws of one policy on 4 prompts may differ by 100% in every resample."""
  results = report_example.real_data()
  for row in results["comparisons"]:
    row |= {"n": 4, "win": 100.0, "lose": 0.0, "tie": 0.0, "delta": 100.0, "ci95": (100.0, 100.0)}
  page = read(results, tmp_path)
  head, *rows = page.tables["Comparisons"]
  assert {row[head.index("95% interval")] for row in rows} == {cells.TOO_FEW}
  assert "+100.0 … +100.0" not in page.text and "too few for an interval" in page.text
  assert "Fewer than 20 prompts are too few" in page.text
  assert cells.said("ci95", {"n": 20, "ci95": (1.0, 9.0)}) == "+1.0 … +9.0"


def test_what_was_not_made_is_said_with_what_would(tmp_path):
  results = report_example.example()
  results["not_made"] = {"ablation": "train with --config.ablations=True in another workdir"}
  sentence = "Experiment ablation was not made: train with --config.ablations=True"
  assert sentence in read(results, tmp_path).text
  assert sentence in " ".join(pages.tables(results, METHOD).split())


@pytest.mark.parametrize("is_trained", [True, False])
def test_an_experiment_without_its_training_is_not_made(is_trained):
  config = {"ablations": is_trained, "frontier": {"checkpoints": 5}}
  lacking = findings.not_made(pit.RECIPE, config)
  assert list(lacking) == ([] if is_trained else ["ablation"])
  assert is_trained or "--config.ablations=True" in lacking["ablation"]
