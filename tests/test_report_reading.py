"""What a reader of the report finds: its numbers, its order, what to do, and how wide it is."""

import json

import pytest
import report_example
from test_report import METHOD, Page, read

from pit_jax.report import advice, cells, pages, presentation


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  directory = tmp_path_factory.mktemp("run")
  path = pages.write(report_example.example(), directory, METHOD)
  return path, Page(path.read_text(encoding="utf-8"))


def number(text):
  return float(text.replace("−", "-").replace("+", "").replace(",", "").rstrip("%"))


def test_the_page_says_the_numbers_of_the_results(written):
  """What stands in its tables, read back, is results.json up to rounding."""
  path, page = written
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
    assert "hardly learnt" in text and "R_P is right on 52.0% of the pairs" in text
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
  assert (
    "raise --config.curriculum[1].learning_rate, or lower --config.curriculum[1].kl_coefficient"
    in said
  )
  assert said.count("pit_policy had") == 1 and "--config.rl." not in said


def test_the_answers_come_before_the_tables_and_the_names_before_both(written):
  text = written[1].text
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
