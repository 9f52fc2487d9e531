"""The report's parts: gate and headline, marked changes, figures, the pipeline's drawing."""

import html
import itertools
import re
import time

import hypothesis
import pytest
import report_example
from hypothesis import strategies
from matplotlib.backends import backend_agg

from pit_jax.recipes import rlhf
from pit_jax.recipes.pit import gate
from pit_jax.recipes.reward import figures
from pit_jax.report import (
  diagram,
  pages,
  palette,
  plots,
  revisions,
  tabular,
  training_tables,
  verdict,
)

METHOD = report_example.METHOD


def draw(results, is_wide=True):
  """Returns all figures of a page."""
  shown = [figure for section in tabular.sections(METHOD) for figure in section.figures]
  return plots.draw(shown, results, METHOD, is_wide)


def pipeline(results, wide, method=METHOD):
  return diagram.draw(method.diagram(results), wide)


def test_an_open_gate_holds_nothing_back():
  results = pages.check(report_example.example())
  assert verdict.presentable(results, METHOD) == results


@pytest.mark.parametrize(
  ("judge", "change", "passed"),
  [
    (None, {}, True),
    ("gold", {"ci95": (-0.1, 9.0)}, False),
    ("R_P", {"ci95": (0.0, 9.0)}, False),
    ("R_P", {"b": "somebody"}, False),
  ],
)
def test_gate_wants_every_judge(judge, change, passed):
  results = report_example.example()
  del results["gate"]
  for row in results["comparisons"]:
    if (row["a"], row["judge"]) == ("original", judge):
      row.update(change)
  found = gate.gate(results)
  assert found["passed"] is passed
  assert passed or judge in found["reason"]


@pytest.mark.parametrize(
  ("judge", "ci95", "words"),
  [
    ("gold", (1.0, 9.0), "One round of PIT improves the RLHF policy's answers: it wins 40%"),
    ("gold", (-9.0, -1.0), "makes the RLHF policy's answers worse"),
    ("gold", (-1.0, 9.0), "makes no measurable difference"),
    ("R_P", (1.0, 9.0), "raises the R_P score of the RLHF policy's answers"),
    ("R_P", (-9.0, -1.0), "lowers the R_P score"),
  ],
)
def test_headline_says_no_more_than_the_interval(judge, ci95, words):
  row = {"a": "pit", "b": "original", "judge": judge, "n": 1200, "win": 40.0, "lose": 35.0}
  row |= {"tie": 25.0, "delta": 5.0, "ci95": ci95}
  results = {"headline": ["pit", "original"], "comparisons": [row]}
  results["gate"] = {"passed": True, "reason": ""}
  sentence = verdict.headline(results, METHOD)
  assert words in sentence and "of 1,200 held-out prompts" in sentence
  assert f"{verdict.signed(ci95[0])} to {verdict.signed(ci95[1])}" in sentence


def test_headline_believes_gold_first_and_prefers_temperature_one():
  rows = report_example.example()["comparisons"]
  found = verdict.find(list(reversed(rows)), "pit", "original")
  assert (found["judge"], found["temperature"]) == ("gold", 1.0)
  assert verdict.find(rows, "pit", "nobody") is None


words = strategies.lists(
  strategies.sampled_from(["a", "b", "the call", "<b>", "&amp;", "  ", "\n"]), max_size=12
).map(" ".join)


@hypothesis.given(words, words)
@hypothesis.settings(deadline=None, max_examples=60)
def test_marks_hold_both_texts(before, after):
  marked = revisions.mark(before, after)
  for text, other, own in ((before, "ins", "del"), (after, "del", "ins")):
    without = re.sub(f"<{other}>.*?</{other}>", "", marked, flags=re.DOTALL)
    assert html.unescape(re.sub(f"</?{own}>", "", without)) == text


def test_long_texts_are_compared_in_little_time():
  words = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "a",
    "is",
    "it",
    "for",
    "on",
    "that",
    "with",
    "as",
    "was",
  ]
  before = " ".join(words[i * i % 13] for i in range(2000))
  after = " ".join(words[i * 7 % 14] for i in range(2000))
  start = time.process_time()
  marked = revisions.mark(before, after)
  revisions.alike(before, after)
  assert time.process_time() - start < 1.0
  assert html.unescape(re.sub("<ins>.*?</ins>|</?del>", "", marked, flags=re.DOTALL)) == before


def test_marks_by_hand():
  for before, after, marked in (
    ("ivy gets the call", "ned gets the fifth call",
     "<del>ivy</del><ins>ned</ins> gets the <ins>fifth </ins>call"),
    ("all the best", "have a day", "<del>all the best</del><ins>have a day</ins>"),
    ("one <b>", "one <b>", "one &lt;b&gt;"),
    ("", "new", "<ins>new</ins>"),
  ):  # fmt: skip
    assert revisions.mark(before, after) == marked


def test_forest_draws_each_estimate_in_the_colour_of_its_system():
  rows = pages.check(report_example.example())["comparisons"]
  (axes,) = draw({"comparisons": rows, "systems": {}})["comparisons"].axes
  drawn = {(line.get_color(), *line.get_xdata()) for line in axes.lines}
  for row in rows:
    assert (METHOD.colour(row["a"]), row["delta"]) in drawn
    assert (METHOD.colour(row["a"]), *row["ci95"]) in drawn
  labels = [label.get_text() for label in axes.get_yticklabels()]
  assert labels[0] == "pit over original" and "pit over original, T 0.4" in labels


def test_gaps_are_drawn_in_the_order_of_equation_1():
  order = pages.check(report_example.example())["gap_order"]
  figure = figures.ORDER.draw({"gap_order": order}, METHOD, True)
  means = [axes.lines[0].get_xdata()[0] for axes in figure.axes]
  assert means == pytest.approx([order[name] for name in ("wl", "ww", "ll", "lw")])


def test_gaps_are_drawn_in_the_unit_of_their_calibration():
  order = {"histogram": {"wl": [1.0, 2.0], "lw": [-1.0, 0.0]}}
  figure = figures.ORDER.draw({"gap_order": order}, METHOD, False)
  said = [axes.get_xlabel() for axes in figure.axes]
  assert "deviations" in said[-1] and "nats" not in "".join(said)


def test_a_figure_for_the_page_has_no_fixed_size_and_no_date():
  drawn = draw(pages.check(report_example.real_data()))
  text = plots.svg(drawn["comparisons"], 'a "quoted" label')
  assert text.startswith("<svg") and text.endswith("</svg>")
  head = text[: text.index(">")]
  assert "viewBox" in head and " width=" not in head and "a &#34;quoted&#34; label" in head
  assert "DejaVu" not in text and "metadata" not in text


@pytest.mark.parametrize("is_dark", [False, True])
def test_every_colour_of_the_page_is_one_of_its_scheme(is_dark):
  results = pages.check(report_example.example())
  drawn = [
    plots.svg(figure, "") for wide in (True, False) for figure in draw(results, wide).values()
  ]
  drawn += [pipeline(results, wide) for wide in (True, False)]
  defined = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", palette.variables(is_dark)))
  for drawing in drawn:
    assert not re.findall(r"#[0-9a-f]{6}\b", drawing), "a colour that has no dark value"
    assert set(re.findall(r"var\(--([\w-]+)\)", drawing)) - {"sans"} <= defined.keys()


def luminance(colour):
  parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
  red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts)
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("is_dark", [False, True])
def test_text_can_be_read_in_both_schemes(is_dark):
  colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", palette.variables(is_dark)))
  of_text = {"ink": 7, "quiet": 4.5, "accent": 4.5, "worse": 4.5}  # WCAG's contrast ratios
  for ground, names in (("paper", of_text), ("gone", ["ink"]), ("new", ["ink"])):
    for name in names:
      darker, lighter = sorted(luminance(colours[place]) for place in (name, ground))
      assert (lighter + 0.05) / (darker + 0.05) >= of_text[name], (name, ground)


def boxes_of(drawing):
  pattern = r'<rect x="(\d+)" y="(\d+)" width="(\d+)" height="(\d+)" rx="5"'
  return [tuple(int(part) for part in found) for found in re.findall(pattern, drawing)]


@pytest.mark.parametrize("wide", [True, False])
def test_pipeline_shows_four_models_three_folds_and_the_curriculum(wide):
  drawing = pipeline(pages.check(report_example.example()), wide)
  text = re.sub(r"<[^>]*>|\u200b", "", drawing.replace("</text>", " "))
  for words in ("MP fine-tuned", "RP reward", "MPIT fine-tuned", "RPIT gap reward", "Fold 3"):
    assert words in text
  for words in ("improves yl and yw", "improves samples of MP", "7,744 rows", "MPIT stage 1"):
    assert words in text
  assert "MPIT stage 2" not in text  # the ablation is no part of the pipeline
  assert drawing.count("stroke-dasharray") == 1
  boxes = boxes_of(drawing)
  width, height = (int(part) for part in re.search(r'0 0 (\d+) (\d+)"', drawing).groups())
  assert len(boxes) == 9
  for index, (x, y, w, h) in enumerate(boxes):
    assert x >= 0 and y >= 0 and x + w <= width and y + h <= height
    for p, q, r, s in boxes[:index]:
      assert x >= p + r or p >= x + w or y >= q + s or q >= y + h


def test_pipeline_takes_any_number_of_curriculum_stages():
  results = pages.check(report_example.example())
  for index in range(3):
    stage = {"name": f"more_{index}", "references": ["policy"]}
    results["config"]["curriculum"].append(stage)
  assert len(boxes_of(pipeline(results, wide=True))) == 12
  assert len(boxes_of(pipeline(results, wide=True, method=rlhf.RECIPE.page))) == 4


@pytest.mark.parametrize("is_wide", [True, False])
def test_figures_have_the_width_of_their_page_and_its_letters(is_wide):
  width = palette.WIDE if is_wide else palette.NARROW
  for name, figure in draw(pages.check(report_example.example()), is_wide).items():
    drawing = plots.svg(figure, name, "wide")
    assert float(re.search(r'viewBox="0 0 ([\d.]+)', drawing)[1]) == pytest.approx(width)
    sizes = re.findall(r"font: ([\d.]+)px|font-size: ([\d.]+)px", drawing)
    assert sizes and min(float(a or b) for a, b in sizes) >= 12, name


@pytest.mark.parametrize("wide", [True, False])
def test_the_letters_of_the_pipeline_are_those_of_the_page(wide):
  drawing = pipeline(pages.check(report_example.example()), wide)
  assert int(re.search(r'viewBox="0 0 (\d+)', drawing)[1]) <= (
    palette.WIDE if wide else palette.NARROW
  )
  assert min(map(float, re.findall(r'font-size="([\d.]+)"', drawing))) >= 12


def overlapping(axes):
  """Returns whether two labels of an axis lie on each other."""
  renderer = axes.figure.canvas.get_renderer()
  for axis in (axes.xaxis, axes.yaxis):
    shown = [label for label in axis.get_ticklabels() if label.get_text()]
    boxes = [label.get_window_extent(renderer) for label in shown]
    if any(a.overlaps(b) for a, b in itertools.pairwise(boxes)):
      return True
  return False


@pytest.mark.parametrize("is_wide", [True, False])
def test_labels_stand_apart_and_steps_are_whole(is_wide):
  results = pages.check(report_example.example())
  for stage in results["stages"].values():  # few steps, where fractions would be between them
    stage["curve"] = {name: points[:3] for name, points in stage["curve"].items()}
    for points in stage["curve"].values():
      points[:] = [[step, value] for step, (_, value) in enumerate(points, start=1)]
  for name, figure in draw(results, is_wide).items():
    backend_agg.FigureCanvasAgg(figure).draw()
    for axes in filter(lambda axes: axes.get_visible(), figure.axes):
      assert not overlapping(axes), name
      if name in ("reinforcement", "losses", "rounds"):
        ticks = [label.get_text() for label in axes.get_xticklabels()]
        assert all(text.replace("−", "").isdigit() for text in ticks if text), name


def test_every_curve_of_every_stage_is_drawn():
  results = pages.check(report_example.example())
  stage = results["stages"]["reward"]
  stage["curve"]["accuracy"] = [[10, 0.6], [20, 0.7]]
  stage["validation"] = {"accuracy": [[20, 0.65]]}
  drawn = draw(results)
  titles = [axes.get_title("left") for axes in drawn["losses"].axes if axes.get_visible()]
  others = [name for name, row in results["stages"].items() if row["kind"] != "rl"]
  assert titles == [
    title
    for name in others
    for title in (
      f"{name}: loss, nats",
      *(["reward: accuracy, share of pairs"] * (name == "reward")),
    )
  ]
  (accuracy,) = [axes for axes in drawn["losses"].axes if "accuracy" in axes.get_title("left")]
  assert [line.get_xydata().tolist() for line in accuracy.lines] == [
    [[10, 0.6], [20, 0.7]], [[20, 0.65]],
  ]  # fmt: skip
  seen = [axes.get_title("left") for axes in drawn["reinforcement"].axes]
  assert seen == ["reward, deviations", "KL, nats per response"], "no lengths were logged"


def test_the_line_over_kl_never_runs_back():
  results = pages.check(report_example.example())
  chain = results["frontier"]["chains"][0]
  chain["points"] = [chain["points"][place] for place in (0, 2, 1, 3)]
  for axes in draw(results)["frontier"].axes:
    across = axes.lines[0].get_xdata()
    assert list(across) == sorted(across) and axes.get_xscale() == "linear"


def test_the_checks_of_a_task_stand_beside_the_score():
  results = report_example.example()
  results["systems"]["chosen"] = {"score": 5.0}
  tables = tabular.build(pages.check(results), METHOD)
  table = tables["checks"]
  assert table.columns == ("system", "gold score", "answer", "working", "malformed")
  assert len(table.rows) == len(results["systems"]) - 1, "of chosen nothing is known"
  assert ("pit", "8.40", "84.0%", "100.0%", "0.0%") in table.rows
  assert "checks" not in tables["systems"].columns
  for row in results["systems"].values():
    row.pop("checks", None)
  assert "checks" not in tabular.build(pages.check(results), METHOD)


def test_the_knee_is_told_where_a_phone_sees_it():
  table = tabular.build(pages.check(report_example.example()), METHOD)["knee"]
  assert table.columns[:2] == ("chain", "knee")


@pytest.mark.parametrize(
  ("bounds", "digits"),
  [((-4.0, 4.5), 1), ((-30.0, 12.0), 0), ((0.31, 0.36), 1), ((5.0, 5.0), 1), (None, 1)],
)
def test_a_number_has_the_digits_that_its_interval_bears(bounds, digits):
  assert verdict.digits(bounds) == digits
  said = verdict.delta({"delta": 7.04, "ci95": bounds or (0, 0)})
  assert said == ("+7" if digits == 0 else "+7.0")
  assert verdict.digits((0.1, 0.2), most=3) == 3 and verdict.digits((0.1, 0.9), most=3) == 2


def test_before_and_after_are_means_of_the_ends():
  assert training_tables.ends([[step, float(step)] for step in range(10)]) == (0.5, 8.5)
  assert training_tables.ends([[1, 2.0]]) == (2.0, 2.0) and training_tables.ends([]) is None
