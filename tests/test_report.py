"""The report as files: what the page and the terminal show, and what is refused."""

import base64
import copy
import hashlib
import html.parser
import json
import math
import re
import struct

import ledger_example
import numpy as np
import pytest
import report_example
import tiny_run

from pit_jax.recipes import rlhf
from pit_jax.recipes.pit import gate
from pit_jax.report import pages, tabular, verdict

METHOD = report_example.METHOD


class Page(html.parser.HTMLParser):
  """Text, tags and addresses of a page; complains about tags that do not match."""

  VOID = ("meta", "br", "hr", "img", "link", "input")

  def __init__(self, text):
    super().__init__()
    self.open, self.tags, self.addresses, self.text = [], [], [], ""
    self.ids, self.tables, self.rows = set(), {}, []
    self.feed(text)
    assert not self.open

  def handle_starttag(self, tag, attributes):
    self.tags.append(tag)
    known = dict(attributes)
    self.ids |= {known["id"]} if "id" in known else set()
    if known.get("role") == "group":
      self.rows = self.tables.setdefault(known["aria-label"], [])
    if tag == "tr":
      self.rows.append([])
    if tag in ("td", "th"):
      self.rows[-1].append("")
    self.addresses += [v for k, v in attributes if k in ("src", "href", "xlink:href", "srcset")]
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attributes):
    self.handle_starttag(tag, attributes)
    self.handle_endtag(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if not {"style", "script"} & set(self.open):
      self.text += data
    if {"td", "th"} & set(self.open):
      self.rows[-1][-1] += data


def read(results, directory, method=METHOD) -> Page:
  """Returns the page of some results, whose figures only their own tests paint."""
  with tiny_run.unrendered():
    page = pages.write(results, directory, method)
  return Page(page.read_text(encoding="utf-8"))


def test_writes_the_page_the_figures_and_the_results(example_report):
  path, _ = example_report
  figures = ("comparisons", "scores", "rounds", "temperature", "cost", "frontier", "gaps",
             "margins", "reinforcement", "losses", "summary")  # fmt: skip
  files = {"report.html", "results.json", *(f"{name}.png" for name in figures)}
  assert {file.name for file in path.parent.iterdir()} == files
  for name in figures:
    assert (path.parent / f"{name}.png").read_bytes().startswith(b"\x89PNG")
  header = (path.parent / "summary.png").read_bytes()[16:24]
  assert struct.unpack(">II", header) == (1200, 630)


def test_page_needs_no_other_file_and_links_those_beside_it(example_report):
  path, page = example_report
  within = {address[1:] for address in page.addresses if address.startswith("#")}
  assert {"downloads", "answers", "claims", "training"} <= within <= page.ids
  beside = {address for address in page.addresses if not address.startswith("#")}
  assert beside == {file.name for file in path.parent.iterdir()} - {"report.html"}
  assert not {"link", "img", "iframe", "object"} & set(page.tags)
  style = path.read_text(encoding="utf-8")
  assert "@import" not in style
  assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", style))


def test_page_allows_itself_its_own_script_and_nothing_else(example_report):
  text = example_report[0].read_text(encoding="utf-8")
  (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
  (script,) = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
  digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
  assert policy.split("; ") == [
    "default-src 'none'", "style-src 'unsafe-inline'", f"script-src 'sha256-{digest}'",
  ]  # fmt: skip


def test_page_and_terminal_show_every_cell_of_every_table(example_report):
  _, page = example_report
  terminal = re.sub(r"\s+", " ", pages.tables(report_example.example(), METHOD, width=160))
  made = tabular.build(pages.check(report_example.example()), METHOD)
  names = "comparisons other_judges significance controls systems checks rounds ledger ratings "
  names += "temperature cost knee "
  names += "frontier gap_rewards stop_rules stop stop_rounds power agreement length "
  names += "correlations reward_models gap_order gap reinforced stages data"
  assert list(made) == names.split()
  for table in made.values():
    for cell in (cell for row in table.rows for cell in row):
      lowered = re.sub(r"\b([MRy])_(PIT|P|ref|[wl0-9])\b", r"\1\2", cell)
      assert lowered.replace("'", "’") in page.text
      assert (cell in terminal) or table.is_folded or not table.is_printed


def test_tables_hold_the_figures_of_the_results():
  results = pages.check(report_example.example())
  made = tabular.build(results, METHOD)
  row = results["comparisons"][0]
  cells = dict(zip(made["comparisons"].columns, made["comparisons"].rows[0], strict=True))
  assert (cells["system"], cells["against"]) == ("pit", "original")
  assert "judge" not in cells and made["comparisons"].note.startswith("Judged by gold.")
  assert float(cells["Δ %"]) == pytest.approx(row["delta"], abs=0.051)
  low, high = (float(part.replace("−", "-")) for part in cells["95% interval"].split(" … "))
  assert [low, high] == pytest.approx(row["ci95"], abs=0.051)
  assert made["stages"].columns == ("stage", "steps", "tokens/s", "MFU", "time")
  assert made["stages"].rows[0][2:4] == ("41,250", "38.2%")
  assert made["stages"].rows[-1] == ("total", "·", "·", "·", "7 min 16 s")
  assert sum(results["seconds"].values()) == pytest.approx(7 * 60 + 16, abs=1)


def test_results_come_back_as_plain_json(unrendered, tmp_path):
  results = report_example.real_data()
  results["extra"] = {"array": np.arange(3), "number": np.float32(0.5), "nothing": math.nan}
  path = pages.write(results, tmp_path, METHOD)
  stored = json.loads((path.parent / "results.json").read_text(encoding="utf-8"))
  assert stored["extra"] == {"array": [0, 1, 2], "number": 0.5, "nothing": None}
  assert stored["comparisons"][0]["ci95"] == list(results["comparisons"][0]["ci95"])
  assert stored["systems"]["pit"]["score"] is None


def test_writing_twice_gives_the_same_bytes(tmp_path):
  results = report_example.real_data()
  first = {
    file.name: file.read_bytes() for file in pages.write(results, tmp_path, METHOD).parent.iterdir()
  }
  again = {
    file.name: file.read_bytes() for file in pages.write(results, tmp_path, METHOD).parent.iterdir()
  }
  assert first == again


OPTIONAL = {
  "rounds": "Round 0 is the original",
  "temperature": "Temperatures",
  "gap_order": "Order of the gaps",
  "power": "prompts needed",
  "agreement": "Cohen’s κ",
  "ratings": "Bradley–Terry",
  "length": "Without the effect of length",
  "gap": "Is RPIT right?",
  "cost": "What quality costs",
  "ablation": "The stop rule by each",
  "frontier": "Over-optimised?",
  "reward_models": "expected calibration error",
  "ledger": "The ledger",
  "samples": "10 prompts, round by round",
  "answers": "One improved answer",
  "made": "pit train --config=pit:tiny",
  "notes": "One seed",
  "config": "configuration values",
}


def test_sections_are_there_when_their_figures_are(example_report):
  _, page = example_report
  for text in OPTIONAL.values():
    assert text in page.text


def test_a_run_without_gold_shows_what_it_has(tmp_path):
  page = read(report_example.real_data(), tmp_path)
  for section, text in OPTIONAL.items():
    assert (text in page.text) == (
      section == "notes" and "One seed" in str(report_example.real_data()["notes"])
    )
  assert "raises the RP score" in page.text
  assert "No gold score for this source" in page.text
  assert "Mean score of" not in page.text
  assert "None" not in page.text and "nan" not in page.text.split()


def test_reinforcement_learning_alone_has_no_improver(tmp_path):
  results = {"recipe": "rlhf", "seconds": {"sft_policy": 3.0}, "systems": {"original": {}}}
  results["headline"] = ["original", "policy_sft"]
  results["comparisons"] = [
    report_example.comparison(np.random.default_rng(0), "original", "policy_sft")
  ]
  page = read(results, tmp_path, rlhf.RECIPE.page)
  assert "RLHF improves the fine-tuned policy’s answers" in page.text
  assert "PIT" not in page.text


@pytest.mark.parametrize("section", ["recipe", "seconds", "systems", "comparisons"])
def test_a_missing_section_is_named(section, tmp_path):
  results = report_example.real_data()
  del results[section]
  with pytest.raises(ValueError, match=f"results lack {section}; required are recipe"):
    pages.write(results, tmp_path, METHOD)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ("path", "value", "message"),
  [
    (("comparisons", 1, "ci95"), None, r"comparisons\[1\] lacks ci95; it has a, b, judge"),
    (("gap_order", "accuracy"), None, "results.gap_order lacks accuracy"),
    (("rounds", 0, "k"), None, r"rounds\[0\] lacks k"),
    (("stages", "reward", "kind"), None, "stages.reward lacks kind"),
    (("rounds",), {"k": 1}, "results.rounds must be a list, got dict"),
    (("systems",), ["pit"], "results.systems must be a mapping, got list"),
    (("samples", 2), "text", r"results.samples\[2\] must be a mapping, got str"),
  ],
)
def test_a_wrong_section_is_named(path, value, message):
  results = report_example.example()
  *parents, last = path
  place = results
  for key in parents:
    place = place[key]
  if value is None:
    del place[last]
  else:
    place[last] = value
  with pytest.raises(ValueError, match=message):
    pages.check(results)


def improver_rows(results):
  return [row for row in results["comparisons"] if not {row["a"], row["b"]} <= gate.POLICIES]


def test_a_shut_gate_holds_back_what_it_must(tmp_path):
  results = report_example.closed_gate()
  page = read(results, tmp_path)
  assert improver_rows(results) and not improver_rows(verdict.presentable(results, METHOD))
  terminal = pages.tables(results, METHOD, width=160)
  for text in (page.text.replace("RP", "R_P"), re.sub(r"\s+", " ", terminal)):
    assert "supports no claim about PIT, because original does not beat policy_sft" in text
    for row in improver_rows(results):
      assert verdict.signed(row["delta"]) + "\n" not in text
      assert " … ".join(verdict.signed(bound) for bound in row["ci95"]) not in text
  stored = json.loads((tmp_path / "report" / "results.json").read_text(encoding="utf-8"))
  assert len(stored["comparisons"]) == len(results["comparisons"])
  shown = verdict.presentable(results, METHOD)
  assert all("delta_stop" not in row for row in shown["ablation"])
  for section in ("rounds", "cost"):
    assert all("delta" not in row and "ci95" not in row for row in shown[section])
  pairs = {(row["a"], row["b"]) for row in shown["length"]["comparisons"]}
  assert pairs == {("original", "policy_sft")} and not {"ratings", "ledger"} & shown.keys()


def test_texts_of_a_run_cannot_change_the_page(tmp_path):
  results, attack = report_example.real_data(), "<script>alert(1)</script>"
  sample = ledger_example.samples(1)[0]
  for step in sample["rounds"]:
    step["text"] = f"{attack} {step['k']}"
  results["samples"] = [{**sample, "prompt": attack, "chosen": attack, "rejected": attack}]
  results["notes"], results["config"] = [attack], {"name": attack}
  page = read(results, tmp_path)
  assert page.tags.count("script") == 1, "the page's own"
  assert page.text.count(attack) == 3 + 4 + 2


def test_texts_may_hold_anything_that_a_model_writes(tmp_path):
  """A document has no control characters, and each text has the direction of its own letters."""
  results = report_example.real_data()
  sample = ledger_example.samples(1)[0]
  for step in sample["rounds"]:
    step["text"] = "\0bell\a \x7f\ttab \u05e9\u05dc\u05d5\u05dd"
  results["samples"] = [{**sample, "prompt": "p\x1b[31m", "chosen": "c", "rejected": "r"}]
  read(results, tmp_path)
  text = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
  assert not [c for c in text if (ord(c) < 32 and c not in "\t\n\r") or ord(c) == 127]
  assert "\u2400bell\u2407 \u2421\ttab" in text and "p\u241b[31m" in text
  assert re.findall('<p class="(?:prompt|text)"(?! dir="auto")', text) == []


def test_drawing_does_not_change_the_results(tmp_path):
  results = report_example.example()
  before = copy.deepcopy(pages.check(results))
  read(results, tmp_path)
  assert pages.check(results) == before
