"""What language models answered is kept, told apart, and asked for once."""

import pytest

from pit_jax.feedback import transcripts


def test_what_failed_is_asked_again_by_the_next_command_alone(tmp_path):
  asked = []

  def ask(prompts, file, keep):
    for i, prompt in enumerate(prompts):
      asked.append(prompt)
      keep(i, transcripts.Reply(failure="" if prompt == "good" else "gone"))

  def command():
    return transcripts.remembering(ask, tmp_path / "file", {})

  first = command()
  for _ in range(2):
    assert [reply.failure for reply in first(["good", "bad"])] == ["", "gone"]
  assert asked == ["good", "bad"]
  command()(["good", "bad"])
  assert asked == ["good", "bad", "bad"]


def test_what_is_no_file_of_transcripts_is_refused(tmp_path):
  (tmp_path / "t.sqlite").write_bytes(b"something else entirely " * 50)
  said = r"t\.sqlite cannot be used for transcripts .*remove it"
  with pytest.raises(ValueError, match=said), transcripts.opened(tmp_path / "t.sqlite"):
    pass


def test_replies_are_told_apart_by_all_that_decides_them(tmp_path):
  def replying(text):
    def ask(prompts, _, keep):
      for i in range(len(prompts)):
        keep(i, transcripts.Reply(text=text))

    return ask

  def ask(text, **settings):
    found = transcripts.remembering(replying(text), tmp_path / "t.sqlite", settings)
    return [reply.text for reply in found(["p", "q", "p"])]

  assert ask("one", model="m", temperature=0) == ["one"] * 3
  assert ask("two", temperature=0, model="m") == ["one"] * 3
  assert ask("two", model="m", temperature=1) == ["two"] * 3
  assert ask("three", model="n", temperature=0) == ["three"] * 3
