"""Pages say what is so: links resolve, commands and keys exist, the reference is the code's."""

import ast
import hashlib
import importlib.util
import json
import pathlib
import re
import shlex
import subprocess
import sys
import unicodedata

import pytest
import test_configs
import tiny_run
import yaml

from pit_jax import __main__ as cli
from pit_jax.report import pages as report_pages
from pit_jax.tools import keys

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
NOTEBOOK = DOCS / "tutorial.ipynb"
OUTSIDE = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
FILES = [*OUTSIDE, *sorted(DOCS.rglob("*.md")), NOTEBOOK]
NO_KEYS = (".run", ".py", ".md")
EXTERNAL = ("http://", "https://", "mailto:")
# Metrics that the smallest run of pit does not have.
ELSEWHERE = {
  "perf/mfu",  # of devices whose peak is known
  "reward_model/disagreement",  # of ensembles
  *("kl", "validation/kl"),  # of losses that go by one
  *("validation/chosen_logprob", "validation/rejected_logprob"),  # of losses without a reference
}


def read(path):
  """Returns a page's text; of a notebook that of its cells in words."""
  text = path.read_text(encoding="utf-8")
  if path.suffix != ".ipynb":
    return text
  cells = json.loads(text)["cells"]
  return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def prose(text):
  """Returns a page without its blocks of code and what stands between backticks."""
  return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def links(text):
  """Returns the targets of links and pictures."""
  plain = prose(text)
  return re.findall(r"\]\(([^)\s]+)\)", plain) + re.findall(r'src="([^"]+)"', plain)


def anchors(text):
  """Returns the anchors of a page's headings, as mkdocs and GitHub make them."""
  blocks = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
  titles = re.findall(r"^#+ (.+)$", blocks, re.M)
  plain = [
    unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode() for title in titles
  ]
  words = [re.sub(r"[^\w\s-]", "", title).strip().lower() for title in plain]
  return {re.sub(r"[-\s]+", "-", title) for title in words}


def broken(path, text):
  """Returns the links of a page that lead nowhere."""
  lost = []
  for target in links(text):
    if target.startswith(EXTERNAL):
      continue
    file, _, anchor = target.partition("#")
    other = (path.parent / file).resolve() if file else path
    if not other.exists() or (anchor and anchor not in anchors(read(other))):
      lost.append(target)
  return lost


def blocks(text):
  """Returns the lines of the blocks of code, continued ones joined."""
  return "\n".join(re.findall(r"^```\n(.*?)^```", text, re.M | re.S)).replace("\\\n", " ")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_internal_link_and_anchor_resolves(path):
  assert broken(path, read(path)) == []


def test_the_check_of_links_sees_what_it_is_for(tmp_path):
  (tmp_path / "other.md").write_text("# A title: of two\n\n```\n# no title\n```\n")
  text = (
    "[a](other.md) [b](other.md#a-title-of-two) [c](other.md#no-title) [d](none.md) [e](#here)\n"
    "`[f](none.md)` [g](https://example.com/none)\n```\n[h](none.md)\n```\n# Here\n"
  )
  page = tmp_path / "page.md"
  page.write_text(text)
  assert broken(page, text) == ["other.md#no-title", "none.md"]


def navigation(part):
  """Returns the pages of mkdocs' navigation."""
  if isinstance(part, str):
    return [part]
  inner = part.values() if isinstance(part, dict) else part
  return [page for one in inner for page in navigation(one)]


def settings():
  """Returns what mkdocs.yml says."""
  return yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


def test_the_navigation_has_every_page_once():
  named = navigation(settings()["nav"])
  there = {path.relative_to(DOCS).as_posix() for path in [*DOCS.rglob("*.md"), NOTEBOOK]}
  assert len(named) == len(set(named)) and set(named) == there


def test_nothing_is_fetched_while_reading():
  said = settings()
  assert said["theme"]["font"] is False
  assert not {"extra_javascript", "extra_css"} & {*said}
  for path in FILES:
    assert not re.search(r'<(script|link|iframe)|src="http|\]\(http[^)]*\.(png|svg)', read(path))


@pytest.mark.skipif(not importlib.util.find_spec("mkdocs_jupyter"), reason="extra `docs`")
@pytest.mark.slow
def test_the_site_builds_strictly_and_reads_without_a_network(tmp_path):
  command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  pages = sorted(tmp_path.rglob("*.html"))
  assert len(pages) >= len(navigation(settings()["nav"]))
  fetched = (
    r'<(?:script|img|iframe)[^>]* src="(?:https?:)?//|<link[^>]*stylesheet[^>]*href="(?:https?:)?//'
  )
  assert [page.name for page in pages if re.search(fetched, page.read_text("utf-8"))] == []


def generated():
  """Returns the pages that docs/generate.py makes."""
  spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.pages()


def test_the_reference_is_what_the_code_says():
  stale = [
    name
    for name, text in generated().items()
    if (DOCS / "reference" / name).read_text(encoding="utf-8") != text
  ]
  assert stale == [], "run python docs/generate.py"


def config_keys():
  """Returns the keys on the page of configuration keys."""
  text = (DOCS / "reference" / "config.md").read_text(encoding="utf-8")
  return set(re.findall(r"^\| `([^`]+)` \|", text, re.M))


def test_every_key_of_every_configuration_is_on_the_page_and_no_other():
  named = (f"{name}:{size}" for name, size in test_configs.ALL)
  there = {key.key for name in named for key in keys.described(name)}
  assert config_keys() == there


def test_every_shipped_configuration_is_on_the_page_with_its_sizes():
  text = (DOCS / "reference" / "config.md").read_text(encoding="utf-8")
  named = set(re.findall(r"`(\w+:\w+)`", text.partition("## Shipped")[2].partition("\n## ")[0]))
  assert named == {f"{name}:{size}" for name, size in test_configs.ALL}


def helps():
  """Returns command → what its section of the page of commands says."""
  text = (DOCS / "reference" / "commands.md").read_text(encoding="utf-8")
  parts = re.split(r"^## pit (\w+)$", text, flags=re.M)[1:]
  return dict(zip(parts[::2], parts[1::2]))


def typed():
  """Yields (page, words) of every command that a page shows."""
  for path in FILES:
    for line in blocks(read(path)).splitlines():
      if line.startswith(("pit ", "PYTHONPATH=. pit ")):
        words = shlex.split(line, comments=True)
        yield path.name, words[words.index("pit") + 1 :]


def test_commands_that_pages_show_have_options_and_keys_that_exist():
  sections, known = helps(), config_keys()
  assert set(sections) == set(cli.names())
  shown = list(typed())
  assert len(shown) > 20
  for page, (command, *words) in shown:
    assert command in sections, f"{page}: pit {command}"
    for word in words:
      name = word.partition("=")[0]
      if name.startswith("--config."):
        assert re.sub(r"\[\d+\]", "[0]", name.removeprefix("--config.")) in known, f"{page}: {word}"
      elif name.startswith("--"):
        assert name in sections[command], f"{page}: pit {command} {word}"


def test_keys_that_pages_name_exist():
  known = config_keys()
  sections = {key.split(".")[0] for key in known if "." in key}
  pattern = rf"`((?:{'|'.join(sorted(sections))})\.[a-z_.]+)[`=]"
  groups = {
    ".".join(key.split(".")[:count]) for key in known for count in range(1, key.count(".") + 1)
  }
  for path in FILES[len(OUTSIDE) :]:
    # `rl.run` is a function, and `base.py` a file.
    named = {name for name in re.findall(pattern, read(path)) if not name.endswith(NO_KEYS)}
    assert named - known - groups == set(), path.name


def test_experiments_that_the_page_names_are_those_there_are():
  from pit_jax.recipes import recipe

  text = (DOCS / "howto" / "evaluate.md").read_text(encoding="utf-8")
  told = {
    name: {*recipes.split(", ")}
    for name, recipes in re.findall(r"^\| `(\w+)` \| ([\w, ]+) \|", text, re.M)
  }
  there = {}
  for name in recipe.names():
    for experiment in recipe.named(name).experiments:
      there.setdefault(experiment, set()).add(name)
  assert told == there


def spoken():
  """Returns every text of the library, with a mark for what is put into it."""
  texts = []
  for path in sorted((ROOT / "pit_jax").rglob("*.py")):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
      if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "\0" for part in node.values]
        texts.append("".join(parts))
      elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        texts.append(node.value)
  return "\n".join(" ".join(text.split()) for text in texts)


def messages():
  """Returns the messages and reasons in the first columns of the page of troubles."""
  text = (DOCS / "howto" / "troubleshooting.md").read_text(encoding="utf-8")
  cells = re.findall(r"^\| (`.*?`) \|", text, re.M)
  return [message for cell in cells for message in re.findall(r"`([^`]+)`", cell)]


def test_messages_that_the_page_explains_are_those_of_the_library():
  texts = spoken()
  told = messages()
  assert len(told) > 30
  for message in told:
    pattern = ".*".join(re.escape(part.strip()) for part in message.split("…"))
    assert re.search(pattern, texts), message


def documented(name):
  """Returns what the tables of a reference page name in their first column."""
  text = (DOCS / "reference" / name).read_text(encoding="utf-8")
  return {
    word
    for cell in re.findall(r"^\| (`.*?) \|", text, re.M)
    for word in re.findall(r"`([^`]+)`", cell)
  }


@pytest.mark.slow
def test_every_metric_of_a_run_is_on_the_page_and_no_other(finished_run):
  rows = [
    json.loads(line)
    for path in (finished_run.workdir / "metrics").glob("*.jsonl")
    for line in path.read_text().splitlines()
  ]
  logged = {re.sub(r"(?<=rewards/).*", "<name>", name) for row in rows for name in row}
  told = documented("metrics.md")
  assert logged - told == set()
  assert told - logged == ELSEWHERE


@pytest.mark.slow
def test_every_part_of_a_workdir_is_on_the_page(finished_run):
  told = {path.split("/")[0] for path in documented("workdir.md")}
  assert {path.name for path in finished_run.workdir.iterdir()} - told == set()


@pytest.mark.slow
def test_every_section_of_results_is_on_the_page_and_no_other(finished_run):
  text = (finished_run.workdir / "report" / "results.json").read_text(encoding="utf-8")
  known = {*report_pages.REQUIRED, *report_pages.MAPPINGS, *report_pages.LISTS}
  told = documented("results.md")
  assert {*json.loads(text)} - told == set()
  # Runs of other recipes have them; the tests of each look for its own.
  others = {"arms", "crossover", "demonstrations", "ser", "principles", "conflicts"}
  others |= {"class_labels", "classes", "lessons", "kinds", "domains"}
  others |= {"modes", "rerankers", "rationales", "log_ratios", "sentences", "corrections"}
  others |= {"critics", "own", "criticism", "critique_pairs"}
  others |= {"conditioning", "policies", "steering", "improved", "improved_steering"}
  assert told - known - {*json.loads(text)} == others
  assert known - told == set()


def test_the_tutorial_shows_what_its_cells_said():
  cells = [
    cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"
  ]
  assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
  for cell in cells:
    source = "".join(cell["source"])
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    assert cell["metadata"]["executed"] == digest, "run python docs/execute.py"
    assert all(output["output_type"] != "error" for output in cell["outputs"])
    assert bool(cell["outputs"]) == ("print(" in source or source.splitlines()[-1] == "run")
  said = json.dumps([cell["outputs"] for cell in cells], ensure_ascii=False)
  assert "pit against original: Δ" in said and "gain by both orders:" in said
  assert not re.search(r"/(tmp|home|root|work|Users)/", said), "a path of some machine"


@pytest.mark.slow
def test_the_tutorial_runs(unrendered, tmp_path, monkeypatch, capsys):
  lines = []
  for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
    if cell["cell_type"] == "code":
      lines += ["".join(cell["source"])]
      if "parameters" in cell["metadata"].get("tags", ()):
        lines += [f"values = {tiny_run.flags()!r}"]
  monkeypatch.chdir(tmp_path)
  exec(compile("\n".join(lines), NOTEBOOK.name, "exec"), {})
  said = capsys.readouterr().out
  assert "pit against original: Δ" in said
  assert "gain by both orders:" in said


TREE = (DOCS / "tree.md").read_text(encoding="utf-8")


def tree():
  """Returns what docs/tree.md says of every path, folders with their slash."""
  block = TREE.split("```")[1]
  above, found = [], {}
  for line in block.strip().splitlines():
    indent, name, clause = re.fullmatch(r"( *)(\S+) *(.*)", line).groups()
    above = [*above[: len(indent) // 2], name]
    found["".join(above)] = clause
  return found


def test_the_tree_has_a_clause_for_every_file_and_no_other():
  told = tree()
  files = {
    path.relative_to(ROOT).as_posix()
    for folder in ("configs", "launch", "pit_jax")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".sh", ".yaml") and path.name != "__init__.py"
  }
  assert {path for path in told if not path.endswith("/")} == files
  assert all((ROOT / path).exists() for path in told)
  assert [path for path in files if not told[path]] == []
