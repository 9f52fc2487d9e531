"""The list of faults that `make mutants` tries is one that can be tried."""

import ast

import mutants
import pytest

FAULTS = mutants.read()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.file)
def test_a_fault_has_one_place_changes_the_program_and_names_its_tests(fault):
  source = (mutants.ROOT / fault.file).read_text(encoding="utf-8")
  changed = fault.applied(source)
  assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(source))
  assert fault.tests
  for tests in fault.tests:
    assert (mutants.ROOT / tests).is_file()


def test_there_are_faults_in_every_room_that_decides_what_is_learnt():
  assert len(FAULTS) >= 60
  rooms = {"losses", "rollout", "stages", "data", "statistics", "models", "training"}
  assert rooms <= {fault.file.split("/")[1] for fault in FAULTS}


def test_a_place_that_is_there_twice_is_refused():
  fault = mutants.Mutant("pit_jax/x.py", "a", "b", ("tests/test_x.py",))
  with pytest.raises(ValueError, match="2 times"):
    fault.applied("a a")


def test_what_no_test_sees_survives_and_what_one_sees_is_killed(tmp_path):
  (tmp_path / "library.py").write_text("ONE = 1\nTWO = 2\n")
  (tmp_path / "test_library.py").write_text(
    "import library\n\n\ndef test_one():\n  assert library.ONE == 1\n"
  )
  seen = mutants.Mutant("library.py", "ONE = 1", "ONE = 3", ("test_library.py",))
  unseen = mutants.Mutant("library.py", "TWO = 2", "TWO = 3", ("test_library.py",))
  assert mutants.is_killed(seen, tmp_path)
  assert not mutants.is_killed(unseen, tmp_path)
  assert (tmp_path / "library.py").read_text() == "ONE = 1\nTWO = 2\n"


def test_a_fault_that_makes_a_loop_endless_is_killed(tmp_path, monkeypatch):
  monkeypatch.setattr(mutants, "LIMIT", 5)
  (tmp_path / "library.py").write_text("STEP = 1\n")
  (tmp_path / "test_library.py").write_text(
    "import library\n\n\ndef test_it_ends():\n  left = 3\n  while left > 0:\n"
    "    left -= library.STEP\n"
  )
  endless = mutants.Mutant("library.py", "STEP = 1", "STEP = 0", ("test_library.py",))
  assert mutants.is_killed(endless, tmp_path)
