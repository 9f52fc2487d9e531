"""What a report says of its own making."""

import subprocess

import pytest

from pit_jax.evaluate import provenance


@pytest.mark.parametrize(
  ("arguments", "command"),
  [
    (["pit train", "--config=pit:demo", "--workdir=my runs"],
     "pit train --config=pit:demo '--workdir=my runs'"),
    (["/somewhere/launch/train.py", "--workdir=runs"], "python launch/train.py --workdir=runs"),
    (["/usr/bin/pytest", "-q"], ""),
    (["notebook.py"], ""),
  ],
)  # fmt: skip
def test_the_command_is_one_that_a_shell_takes(arguments, command):
  assert provenance.command(arguments) == command


def test_the_commit_is_that_of_a_checkout(tmp_path):
  assert provenance.commit(tmp_path) == ""

  def git(*arguments):
    done = subprocess.run(
      ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=b", *arguments],
      check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.strip()

  git("init", "-q")
  (tmp_path / "file").write_text("one")
  git("add", "file")
  git("commit", "-qm", "first")
  git("tag", "v1")
  assert provenance.commit(tmp_path) == git("rev-parse", "--short=12", "HEAD")
  (tmp_path / "file").write_text("two")
  assert provenance.commit(tmp_path).endswith("-dirty")


def test_facts_name_date_devices_and_versions():
  facts = provenance.facts(4)
  assert facts["devices"].startswith("4 × ") and facts["date"].endswith("UTC")
  assert "JAX" in facts["versions"] and "" not in facts.values()
