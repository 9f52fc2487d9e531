"""MARV asked of finished runs: whether what is preferred makes revisions better."""

import json
from unittest import mock

import jax
import numpy as np
import pytest
import test_doctor

from pit_jax.api import runs
from pit_jax.commands import doctor
from pit_jax.data import preferences, values
from pit_jax.tools.doctor import cases, revisions

ROWS = tuple(preferences.Preference(f"q{i}", f"good {i}", f"bad {i}", place=f"f, line {i + 1}")
             for i in range(12))  # fmt: skip
HOW = {"most": 12, "samples": 2, "seed": 0}
TOO_LONG = "q3"


class Scripted(runs.Run):
  """A run whose improver writes the draft again with its own name, and whose reward is a table."""

  models = ("improver", "reward")

  def __init__(self, name, worth=None, silent=()):
    self.place = name
    self.worth = worth or (lambda text: float(text.startswith("good")))
    self.asked = []
    self.scored = []
    self.silent = silent
    self.improver = mock.Mock(improver="its parameters", shown=list)
    self.improver.inference.revise = self._revise
    self.improver.inference.check_prompt = self._check

  def chosen(self, names):
    assert names is None
    return ()

  def under(self, shown):
    assert shown == ()
    return self.improver

  def _check(self, prompt):
    if prompt == TOO_LONG:
      raise values.RowError("too long", "the prompt")

  def _revise(self, params, prompts, drafts, key, temperature):
    assert (params, temperature) == ("its parameters", 1.0)
    self.asked.append((prompts, drafts, jax.random.key_data(key).tolist()))
    # What differs from sample to sample of a draft.
    return ["" if p in self.silent else f"{d} {n % 2} of {self.place}"
            for n, (p, d) in enumerate(zip(prompts, drafts, strict=True))]  # fmt: skip

  def score(self, prompts, texts):
    self.scored += zip(prompts, texts, strict=True)
    return np.array([self.worth(text) for text in texts], np.float32)


def test_gains_are_those_of_slow_python():
  worth = lambda text: sum(map(ord, text)) % 17 / 3.0  # noqa: E731
  own, other = Scripted("one", worth, silent=("q5",)), Scripted("other", worth)
  found = revisions.revise(ROWS, [own, other], **HOW)
  assert found.places.tolist() == [i for i in range(12) if f"q{i}" != TOO_LONG]
  assert found.refused == {3: "too long: the prompt"}

  expected = []
  for i in found.places:
    means = []
    for side in ("good", "bad"):
      texts = [f"{side} {i} {n} of {run.place}" for run in (own, other) for n in range(2)
               if not (run is own and i == 5)]  # fmt: skip
      means.append(np.mean([worth(text) for text in texts]))
    expected.append(means[0] - means[1])
  np.testing.assert_allclose(found.gains, expected, atol=1e-6)
  assert found.kept.tolist() == [i for i, gain in zip(found.places, expected) if gain > 0]

  # The first run's reward alone scores, each text once; the noise of each reviser is its own.
  assert len({*own.scored}) == len(own.scored) == 10 * 4 + 11 * 4 and other.scored == []
  assert own.asked[0][2] != other.asked[0][2]


def test_as_many_pairs_as_asked_for_are_drawn_by_the_seed():
  drawn = [revisions.revise(ROWS, [Scripted("one")], most=5, samples=1, seed=seed)
           for seed in (0, 0, 1)]  # fmt: skip
  places = [[*one.places.tolist(), *one.refused] for one in drawn]
  assert [len(some) for some in places] == [5, 5, 5]
  assert places[0] == places[1] != places[2]


def test_where_nothing_can_be_asked_it_is_said_why():
  with pytest.raises(ValueError, match="no pair can be revised; .* too long: the prompt"):
    revisions.revise([ROWS[3]], [Scripted("one")], **HOW)


@pytest.mark.parametrize(
  ("worth", "severity", "share"),
  [
    (lambda text: float(text.startswith("good")), "ok", 1.0),
    (lambda text: float(text.startswith("bad")), "problem", 0.0),
    (lambda text: 1.0, "unknown", 0.5),
  ],
)
def test_the_finding_says_whether_the_preference_makes_revisions_better(worth, severity, share):
  rows = tuple(row for row in ROWS if row.prompt != TOO_LONG)
  loaded = preferences.PreferenceSet(rows, {}, "f", "")
  examined = cases.gather(loaded, preferences.Division())
  told = revisions.revise(rows, [Scripted("one", worth)], **HOW)
  found = revisions.finding(examined, told)
  assert found.severity == severity
  assert test_doctor.value({"figures": [vars(one) for one in found.figures]},
                           "revisions of the preferred answer are better") == share  # fmt: skip
  assert f"higher in {11 if share == 1 else 0}, lower in {11 if share == 0 else 0}" in found.found
  # Rows that MARV drops are named for programs, and the worst of them shown.
  assert len(found.places) == np.count_nonzero(told.gains <= 0)
  assert bool(found.examples) == (share == 0)
  assert ("--kept" in found.advice, "--revise_rows" in found.advice) == (share == 0, share == 0.5)


def test_what_is_kept_can_be_trained_on(tmp_path):
  told = revisions.revise(ROWS, [Scripted("one", lambda text: float("good 4" in text))], **HOW)
  path = tmp_path / "kept.jsonl"
  revisions.write(str(path), ROWS, told)
  (kept,) = preferences.load(f"jsonl:{path}").rows
  assert kept == ROWS[4]
  none = revisions.revise(ROWS, [Scripted("one", lambda text: 0.0)], **HOW)
  revisions.write(str(path), ROWS, none)
  assert path.read_text() == "", "an older file is replaced, and the findings are told all the same"


def test_the_command_asks_a_finished_run(tmp_path, tiny_export, capsys):
  rows = test_doctor.clean(60)
  kept = tmp_path / "kept.jsonl"
  flags = [f"--revise={tiny_export}", "--revise_rows=20", "--revise_samples=2", f"--kept={kept}"]
  found, path = test_doctor.examine(tmp_path, rows, *flags, f"--html={tmp_path / 'page.html'}")
  count = test_doctor.value(found["revisions"], "pairs that MARV keeps")
  assert 0 < count < 20, "models of random weights like neither answer"
  lines = [json.loads(line) for line in kept.read_text().splitlines()]
  assert len(lines) == count
  assert all({name: line[name] for name in rows[0]} in rows for line in lines)
  dropped = {place.removeprefix(f"{path}, line ") for place in found["revisions"]["places"]}
  assert len(dropped) == 20 - count
  assert f"written: {kept}" in capsys.readouterr().out
  assert revisions.TITLE in (tmp_path / "page.html").read_text()
  again, _ = test_doctor.examine(tmp_path, rows, *flags)
  assert again["revisions"] == found["revisions"]


@pytest.mark.parametrize(
  ("flags", "said"),
  [
    (["--kept=kept.jsonl"], "--kept writes pairs that were revised; name runs that revise"),
    (["--revise=runs/none"], "there is no folder runs/none"),
    (["--revise=,"], "',' names no run; write --revise=runs/demo"),
    (["--revise=runs/none", "--revise_rows=0"], "--revise_rows"),
    (["--revise=runs/none", "--kept=."], "--kept=. is a folder; name a file"),
  ],
)
def test_what_cannot_revise_is_refused_first(flags, said, tmp_path, capsys):
  path = tmp_path / "rows.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in test_doctor.clean(20)))
  with pytest.raises(SystemExit) as ended:
    doctor.main([f"--source=jsonl:{path}", *flags])
  assert said in f"{ended.value} {capsys.readouterr().err}"
