"""Writers behind endpoints: all in one pass, kept as ever, and what is alike paid once."""

import hashlib
import json

import jax
import judge_server
import pytest
from test_endpoint import KEY, SETTINGS
from test_writers import POLICY, Echo

from pit_jax.feedback import endpoint, transcripts, writers


@pytest.fixture
def server(monkeypatch):
  monkeypatch.setenv(endpoint.KEY, KEY)
  monkeypatch.delenv(endpoint.ADDRESS, raising=False)
  with judge_server.serving() as running:
    running.RequestHandlerClass = Echo
    yield running


def test_samples_are_asked_at_once(server, tmp_path):
  server.hold = 0.2
  settings = endpoint.Settings(base_url=server.url, **SETTINGS)
  writer = writers.behind_endpoint("teacher", settings, tmp_path / "paid.sqlite")
  writer.write(POLICY.conversations(["so"]), jax.random.key(0), 0.0, samples=4)
  assert server.most > 1


def test_what_was_kept_before_samples_were_one_pass_is_read(server, tmp_path):
  """Keys by hand: a sha256 of format, all that decides a reply, and the turns."""
  key = jax.random.key(3)
  decided = {"model": "some-model", "endpoint": f"{server.url}/", "temperature": 0.5, "top_p": 0.9}
  decided |= {"max_tokens": 64, "key": jax.random.key_data(key).tolist()}
  with transcripts.opened(tmp_path / "paid.sqlite") as file:
    for sample in (0, 1):
      settings = {**decided, "sample": sample}
      content = json.dumps([1, settings, [["user", "so"]]], sort_keys=True)
      reply = transcripts.Reply(text=f"kept {sample}")
      file.write(hashlib.sha256(content.encode()).hexdigest(), settings, "so", reply)
  settings = endpoint.Settings(base_url=server.url, **SETTINGS)
  writer = writers.behind_endpoint("teacher", settings, tmp_path / "paid.sqlite")
  made = writer.write(POLICY.conversations(["so"]), key, 0.5, samples=2, top_p=0.9)
  assert made.texts == [["kept 0", "kept 1"]] and not server.asked


def test_requests_of_one_pass_that_are_alike_are_paid_once(server, tmp_path):
  """Each has its own key; what one of them has kept serves the others, too."""
  settings = endpoint.Settings(base_url=server.url, **SETTINGS)
  path = tmp_path / "paid.sqlite"
  shared, own = POLICY.conversations(["shared", "own"])
  keys = [jax.random.key(i) for i in range(3)]
  requests = [
    writers.Request([shared], keys[0], 0.0, samples=2),
    writers.Request([own, shared], keys[1], 0.0),
    writers.Request([shared], keys[2], 0.0),
  ]
  teacher = writers.behind_endpoint("teacher", settings, path)
  made = teacher.write_all(requests[:2])
  assert sorted(server.asked) == ["own", "shared", "shared"]
  assert made[1].texts[1] == made[0].texts[0][:1] and len(made[0].texts[0]) == 2
  again = writers.behind_endpoint("teacher", settings, path)
  alone = lambda one: again.write_all([one])[0]  # noqa: E731
  assert [*map(alone, requests[:2])] == made, "it is kept under every key"
  assert again.write_all(requests)[2].texts == made[1].texts[1:]
  assert len(server.asked) == 3
  assert alone(requests[2]).texts == made[1].texts[1:] and len(server.asked) == 3
