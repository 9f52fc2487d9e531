"""What is said of a pass before the first request, and what no budget pays for."""

import json
import re

import jax
import judge_server
import pytest
from test_endpoint import KEY, SETTINGS

from pit_jax import progress
from pit_jax.data import prompt_formats
from pit_jax.feedback import endpoint, estimates, writers

POLICY = prompt_formats.Format("policy", plain="{prompt}")
SECTION = "feedback.writers.teacher"


class Says(judge_server.Handler):
  """Says the same to everything."""

  def behave(self, how, body):
    choice = {"index": 0, "message": {"role": "assistant", "content": "well"}}
    said = {"choices": [choice | {"finish_reason": "stop"}], "usage": {"total_tokens": 100}}
    self.send(200, json.dumps(said))


@pytest.fixture
def server(monkeypatch):
  monkeypatch.setenv(endpoint.KEY, KEY)
  monkeypatch.delenv(endpoint.ADDRESS, raising=False)
  with judge_server.serving() as running:
    running.RequestHandlerClass = Says
    yield running


def teacher(server, tmp_path, key=SECTION, **changes):
  settings = endpoint.Settings(base_url=server.url, **SETTINGS | changes)
  path = tmp_path / "paid.sqlite"
  return writers.behind_endpoint("teacher", settings, path, key=key, count=lambda x: 5 * len(x))


def ask(writer, count, temperature=0.0, **how):
  prompts = POLICY.conversations([f"q{i}" for i in range(count)])
  return writer.write(prompts, jax.random.key(0), temperature, **how)


def test_a_pass_is_told_in_one_line_before_its_first_request(server, tmp_path, capsys):
  said = []
  server.on_request = lambda count: said.append(capsys.readouterr().out)
  writer = teacher(server, tmp_path, input_price=1000, output_price=20_000)
  ask(writer, 10)
  # 50 tokens to read at 0.001, 640 to write at most at 0.02.
  line = "teacher (some-model): 10 requests, ~50 tokens in, ≤640 out, cost ≤12.85\n"
  assert said[0] == line and {*said[1:]} == {""}
  said.clear()
  ask(writer, 12, samples=2)
  line = "teacher: 14 requests, 10 kept, ~70 tokens in, ≤896 out, cost ≤17.99\n"
  assert said[0].replace(" (some-model)", "") == line
  ask(writer, 12, samples=2)
  assert capsys.readouterr().out == "", "nothing is asked"


def test_probes_of_the_temperature_are_counted(server, tmp_path, capsys):
  ask(teacher(server, tmp_path), 2, 1.0)
  assert "5 requests, ~25 tokens in" in capsys.readouterr().out and len(server.asked) == 5


@pytest.mark.parametrize(
  ("budget", "why"),
  [
    (
      {"budget_requests": 5},
      "budget_requests=5 cannot pay for 3 requests beside 3 that were",
    ),
    ({"budget_tokens": 310}, "budget_tokens=310 cannot pay for 15 tokens to read beside 300 that"),
  ],
)
def test_what_the_budget_cannot_pay_for_is_refused_before_it_is_asked(
  server, tmp_path, budget, why
):
  ask(teacher(server, tmp_path), 3)
  writer = teacher(server, tmp_path, **budget)
  with pytest.raises(ValueError, match=re.escape(f"{SECTION}.{why}")):
    ask(writer, 6)
  assert len(server.asked) == 3
  assert not ask(writer, 3).failures, "what is kept costs nothing"
  more = {name: value + 5 for name, value in budget.items()}
  assert len(ask(teacher(server, tmp_path, **more), 6).texts) == 6 and len(server.asked) > 3


def test_without_a_section_it_is_asked_for_what_the_budget_pays_for(server, tmp_path):
  made = ask(teacher(server, tmp_path, key="", budget_requests=4), 6)
  assert len(server.asked) == 4 and {*made.failures.values()} == {"budget used up"}


def test_of_a_series_the_first_pass_says_what_all_take(server, tmp_path, capsys):
  writer = teacher(server, tmp_path)
  series = estimates.Series(20)
  for count in (2, 4):
    with estimates.within(series):
      ask(writer, count)
  line = "teacher (some-model): 40 requests, ~200 tokens in, ≤2.56k out"
  assert capsys.readouterr().out.splitlines() == [line]
  ask(writer, 5)
  assert "1 request, 4 kept, ~5 tokens in" in capsys.readouterr().out


def test_of_a_series_that_goes_on_what_was_kept_says_nothing_of_the_rest():
  one = estimates.Estimate(4, 60, 40, 400, 0.5)
  whole = estimates.Series(10).all_of(one)
  assert (whole.requests, whole.read, whole.written) == (4 + 9 * 64, 10 * 580, 100 * 580)
  assert whole.cost == 0.5 * 145 and whole.kept == 60
  series = estimates.Series(3)
  with estimates.within(series):
    pass  # all of it was kept
  assert series.passes == 2


@pytest.mark.parametrize(
  ("written", "cost", "said"),
  [
    (262_499, 0.2049, "≤263k out, cost ≤0.21"),
    (999_600, 0.0012, "≤1M out, cost ≤0.002"),
    (1_000, 100.2, "≤1k out, cost ≤101"),
    (12_300, 0.2, "≤12.3k out, cost ≤0.20"),
    (640, 2_340_001.0, "≤640 out, cost ≤2.35M"),
  ],
)
def test_bounds_are_rounded_up(written, cost, said):
  assert said in estimates.Estimate(1, 0, 10, written, cost).line(("m",))


def test_how_far_a_pass_is_is_said(server, tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(progress, "EVERY", 0.0)
  with progress.shown():
    ask(teacher(server, tmp_path), 3)
  assert "  asking teacher: 2 of 3 requests  about " in capsys.readouterr().out


@pytest.mark.parametrize("count", [1, 999, 1000, 99_950, 999_600, 12_345_678])
def test_a_line_has_room(count):
  estimate = estimates.Estimate(count, count, count, 30 * count, count / 7)
  for names in (("a writer of some name (and a model)", "a writer of some name"), ("m" * 90,)):
    line = estimate.line(names)
    assert len(line) <= progress.WIDTH and " kept, " in line
    assert line.startswith(("a w", "mmm"))


def test_tokens_are_estimated_by_bytes_where_there_is_no_tokenizer():
  assert estimates.by_bytes(["four", "äöü!"]) == 2
  assert estimates.price(2_000_000, 500_000, 3, 10.0) == 11.0
