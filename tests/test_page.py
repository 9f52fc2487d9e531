"""The report in a browser: on a phone, in both colour schemes, filtered, without the network."""

import functools
import http.server
import json
import re
import shutil
import subprocess
import threading

import ledger_example
import pytest
import report_example

from pit_jax.report import pages, palette

METHOD = report_example.METHOD

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = [
  pytest.mark.skipif(BROWSER is None, reason=f"no browser; install one of {', '.join(NAMES)}"),
]
# A window of a browser without a screen is at least 500 px wide; a frame may be as narrow as a
# phone. The second frame runs no scripts.
LOOK = """<!doctype html><body>
<iframe src="report.html#words=phone" style="width:390px;height:800px;border:0"></iframe>
<iframe src="report.html" sandbox="allow-same-origin" style="width:1200px;height:800px"></iframe>
<pre></pre><script>
addEventListener("load", async () => {
  const [inner, plain] = [...document.querySelectorAll("iframe")].map((f) => f.contentWindow);
  const page = inner.document, found = {}, form = page.querySelector(".filters");
  found.opened = [inner, plain].map((at) => at.document.querySelector("#samples").open);
  plain.document.querySelector("#samples").open = true;
  const shown = (at) => [...at.document.querySelectorAll(".sample")]
    .filter((sample) => sample.getClientRects().length)
    .map((sample) => [sample.dataset.outcome, sample.querySelector(".prompt").textContent]);
  const choose = (name, value) => {
    form.elements[name].value = value;
    form.elements[name].dispatchEvent(new inner.Event("input", { bubbles: true }));
    return shown(inner);
  };
  found.widths = [inner, plain].map((at) => at.document.documentElement.scrollWidth);
  found.scrolling = [...page.querySelectorAll(".scroll")]
    .filter((box) => box.scrollWidth > box.clientWidth).length;
  // Letters of drawings as they are seen: of the drawing's own size times how it is scaled.
  found.letters = [inner, plain].map((at) => Math.min(
    ...[...at.document.querySelectorAll("svg")].filter((svg) => svg.getClientRects().length)
      .flatMap((svg) => {
        const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
        return [...svg.querySelectorAll("text")]
          .map((text) => scale * parseFloat(at.getComputedStyle(text).fontSize));
      })));
  found.drawings = [inner, plain].map((at) => [...new Set(
    [...at.document.querySelectorAll("svg")].filter((svg) => svg.getClientRects().length)
      .flatMap((svg) => [...svg.classList]))].sort());
  found.shadows = inner.getComputedStyle(page.querySelector(".scroll")).backgroundAttachment;
  found.focusable = [...page.querySelectorAll(".scroll")].every((box) => box.tabIndex === 0);
  found.phone = shown(inner);
  found.words = choose("words", "CHAIN 4");
  found.none = choose("words", "nowhere");
  found.all = choose("words", "");
  found.worse = choose("outcome", "worse");
  found.address = inner.location.hash;
  found.said = form.querySelector("output").textContent;
  found.both = choose("round", "kept-1");
  choose("outcome", "");
  found.round = choose("round", "worse-2");
  const changed = new Promise((done) => inner.addEventListener("hashchange", done));
  inner.location.hash = "#outcome=improved";
  await changed;
  found.sent = shown(inner);
  found.plain = shown(plain);
  const style = (at, selector) => at.getComputedStyle(at.document.querySelector(selector));
  found.forms = [inner, plain].map((at) => style(at, "form").display);
  const { backgroundColor, color } = style(inner, "body");
  found.colours = [backgroundColor, color, style(inner, "figure svg text").fill];
  found.marks = ["del", "ins"].map((name) => style(inner, name).textDecorationLine);
  const script = page.createElement("script");
  script.textContent = "window.ran = true";
  page.body.append(script);
  found.ran = inner.ran === true;
  found.fetched = await inner.fetch("secret").then(() => true, () => false);
  found.resources = inner.performance.getEntriesByType("resource").map((entry) => entry.name);
  document.querySelector("pre").textContent = JSON.stringify(found);
});
</script>"""


class Served(http.server.SimpleHTTPRequestHandler):
  """Notes what is asked for, in silence."""

  def do_GET(self):
    self.server.asked.append(self.path)
    super().do_GET()

  def log_message(self, *_):
    pass


@pytest.fixture(scope="module")
def looked(tmp_path_factory):
  """What the browser found in the light and in the dark scheme, and what it asked for."""
  directory = pages.write(report_example.example(), tmp_path_factory.mktemp("run"), METHOD).parent
  (directory / "look.html").write_text(LOOK)
  handler = functools.partial(Served, directory=directory)
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found = {scheme: look(server.server_port, scheme, directory) for scheme in ("light", "dark")}
    server.shutdown()
  return found, server.asked


def look(port, scheme, directory):
  setting = {"dark": 0, "light": 1}[scheme]  # Chromium's own numbers
  options = ["--headless", "--hide-scrollbars", "--no-sandbox", "--disable-gpu", "--no-first-run"]
  options += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
  options += [f"--user-data-dir={directory / scheme}", "--virtual-time-budget=20000"]
  options += [f"--blink-settings=preferredColorScheme={setting}", "--dump-dom"]
  address = f"http://127.0.0.1:{port}/look.html"
  done = subprocess.run([BROWSER, *options, address], capture_output=True, text=True, timeout=300)
  (found,) = re.findall(r"<pre>(.*?)</pre>", done.stdout, flags=re.DOTALL)
  assert found, f"the page's script failed: {done.stderr[-2000:]}"
  return json.loads(found)


@pytest.fixture
def light(looked):
  return looked[0]["light"]


def test_a_phone_scrolls_tables_and_not_the_page(light):
  assert light["widths"] == [390, 1200]
  assert light["scrolling"] > 0
  assert light["shadows"].split(", ")[:4] == ["local", "local", "scroll", "scroll"]
  assert light["focusable"], "or a keyboard cannot scroll"


def test_figures_are_drawn_for_the_width_of_the_page(light):
  assert light["drawings"] == [["narrow", "pipeline"], ["pipeline", "wide"]]
  assert min(light["letters"]) >= 12


def test_an_address_with_words_opens_what_it_filters(light):
  assert light["opened"] == [True, False]


def test_samples_are_filtered(light):
  samples = [[row["outcome"], row["prompt"]] for row in ledger_example.samples(10)]
  worse = [sample for sample in samples if sample[0] == "worse"]
  assert light["all"] == light["phone"] == samples and len(worse) == 4
  assert light["words"] == [samples[4]] and light["none"] == []
  assert light["worse"] == light["round"] == worse and light["both"] == []
  assert (light["address"], light["said"]) == ("#outcome=worse", "4 of 10 shown")
  assert light["sent"] == [sample for sample in samples if sample[0] == "improved"]


def test_without_scripts_all_samples_are_there(light):
  assert light["plain"] == light["all"] and light["forms"] == ["flex", "none"]


def test_changes_are_told_by_more_than_colour(light):
  assert light["marks"] == ["line-through", "underline"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_and_figures_follow_the_scheme(looked, scheme):
  wanted = [palette.PAGE[name][scheme == "dark"] for name in ("paper", "ink")]
  numbers = [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in wanted]
  ground, ink = (f"rgb({', '.join(map(str, parts))})" for parts in numbers)
  found = looked[0][scheme]["colours"]
  assert found[:2] == [ground, ink]
  themed = {colours[scheme == "dark"] for colours in palette.PAGE.values()}
  parts = [int(part) for part in re.findall(r"\d+", found[2])]
  assert "#{:02x}{:02x}{:02x}".format(*parts) in themed


def test_nothing_else_is_asked_for_or_run(looked):
  found, asked = looked
  assert set(asked) <= {"/look.html", "/report.html", "/favicon.ico"}
  for scheme in found.values():
    assert scheme["resources"] == [] and not scheme["ran"] and not scheme["fetched"]
