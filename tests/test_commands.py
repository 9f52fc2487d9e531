"""What commands refuse, in a sentence and before anything is done."""

import pathlib
import subprocess
import sys

import pytest

from pit_jax.commands import paper
from pit_jax.evaluate import seeds
from pit_jax.recipes import running
from pit_jax.report import pages

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
  ("command", "said"),
  [
    (("evaluate", "--export_folds=sft"), "error: --export_folds: nothing is exported"),
    (
      ("evaluate", "--experiment=length", "--minimum_margin=1", "--with_data"),
      "error: --minimum_margin, --with_data: nothing is exported; name a file as "
      "--export_preferences=FILE",
    ),
    (("paper", "--seeds=0,x"), "error: argument --seeds: '0,x': give whole numbers"),
    (("paper", "--seeds="), "error: argument --seeds: '': give whole numbers"),
  ],
)
def test_what_makes_no_sense_is_refused(tmp_path, command, said):
  name, *flags = command
  asked = [sys.executable, f"launch/{name}.py", f"--workdir={tmp_path / 'run'}", *flags]
  ended = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, timeout=300)
  assert ended.returncode == 1 and "Traceback" not in ended.stderr
  assert ended.stderr.strip().splitlines()[-1].startswith(said)
  assert not (tmp_path / "run").exists()


def test_seeds_that_cannot_be_run_end_in_a_sentence(tmp_path):
  flags = ["--seeds=0", f"--workdir={tmp_path}", "--config.data.source=jsonl:absent.jsonl"]
  asked = [sys.executable, "launch/paper.py", *flags]
  ended = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, timeout=300)
  assert ended.returncode == 1 and "Traceback" not in ended.stderr
  assert ended.stderr.strip().splitlines()[-1].startswith("error: ")
  assert "absent.jsonl" in ended.stderr


@pytest.mark.parametrize(("flags", "expected"), [([], True), (["--without_ablations"], False)])
def test_every_seed_has_the_ablations_unless_they_are_left_out(
  flags, expected, tmp_path, monkeypatch
):
  ran = {}

  def run(config, folder):
    ran[config.seed] = config.ablations
    path = folder / "report" / "results.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"comparisons": []}')

  monkeypatch.setattr(running, "run", run)
  monkeypatch.setattr(seeds, "pool", lambda results, _: sorted(results))
  published = []
  monkeypatch.setattr(pages, "publish", lambda results, *_: published.append(results))
  paper.main(["--config=pit:tiny", f"--workdir={tmp_path}", "--seeds=3,5", *flags])
  assert ran == {3: expected, 5: expected} and published == [[3, 5]]
