"""Recipe `bandit`: figures of arXiv 2402.12366, fig. 6, its fits against slow ones, its page."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pit_jax import configurations
from pit_jax.configs import bandit as bandit_config
from pit_jax.recipes import bandit, finished, running
from pit_jax.recipes.bandit import policies
from pit_jax.run import checks
from pit_jax.tools.plan import planning
from pit_jax.training import verify


@pytest.fixture(scope="module")
def results():
  return bandit.measure(bandit_config.get_config().bandit)


def test_the_papers_figure(results):
  """Expected rewards, to a tenth."""
  scores = {name: row["score"] for name, row in results["systems"].items()}
  wanted = {"teacher": 78.54, "student": 40.02, "sft": 70.69, "rlaif": 51.84}
  assert scores == pytest.approx(wanted, abs=0.1)
  assert results["bandit"]["reward_peak"] == 52


def test_where_the_student_stands_decides(results):
  """RLAIF is the student and about 12 everywhere, so that it crosses SFT on the way."""
  bandit = results["bandit"]
  assert bandit["crossing"] == pytest.approx(58.9, abs=0.1)
  assert all(11.5 < row["gain"] < 13 for row in bandit["curve"])
  assert [row["rlaif"] > row["sft"] for row in bandit["curve"]] == [False] * 5 + [True] * 5


def test_both_fits_are_under_trained_at_the_papers_rate(results):
  """At as many steps both go on with the rate, and SFT nearly reaches its teacher."""
  rows = results["bandit"]["learning_rates"]
  for name in ("sft", "rlaif"):
    earned = [row[name] for row in rows]
    assert earned == sorted(earned)
  assert rows[-1]["sft"] == pytest.approx(results["systems"]["teacher"]["score"], abs=0.02)
  assert all(row["sft"] > row["rlaif"] + 10 for row in rows)
  earned = [row["rlaif"] for row in results["bandit"]["betas"]]
  assert earned == sorted(earned, reverse=True) and earned[0] < 53


def test_the_gradients_are_those_of_the_expected_losses():
  """The losses pair by pair and arm by arm, as the paper's program has them, through autodiff."""
  sampled = policies.hill(7, 3.0, 6.0)

  def of_rewards(rewards):
    total = 0.0
    for one in range(7):
      for other in range(7):
        margin = rewards[max(one, other)] - rewards[min(one, other)]
        total += sampled[one] * sampled[other] * jnp.log1p(jnp.exp(-margin))
    return total

  def of_logits(logits):
    return -sum(sampled[arm] * jax.nn.log_softmax(logits)[arm] for arm in range(7))

  x = jnp.array(np.random.default_rng(0).normal(size=7), jnp.float32)
  for loss, gradient in (
    (of_rewards, policies.reward_gradient),
    (of_logits, policies.imitation_gradient),
  ):
    np.testing.assert_allclose(gradient(x, sampled), jax.grad(loss)(x), atol=1e-6)


def test_descents_side_by_side_are_those_one_by_one():
  """Each with its own distribution and rate, in a loop on the host."""
  distributions = jnp.stack([policies.hill(9, peak, 10.0) for peak in (2.0, 6.0)])
  rates = jnp.array([0.5, 3.0])
  found = policies.descend(policies.reward_gradient, distributions, rates, 20)
  for place in range(2):
    x = jnp.zeros(9)
    for _ in range(20):
      x = x - rates[place] * policies.reward_gradient(x, distributions[place])
    np.testing.assert_allclose(found[place], x, rtol=1e-4, atol=1e-6)


def test_the_best_response_is_better_than_its_neighbours():
  """At E_π R − β KL(π ‖ p_S), against random steps to all sides."""
  reference = policies.hill(9, 4.0, 8.0)
  draw = np.random.default_rng(1)
  rewards, beta = jnp.array(draw.normal(size=9), jnp.float32), 0.3

  def objective(policy):
    return float((policy * (rewards - beta * jnp.log(policy / reference))).sum())

  policy = policies.best_response(reference, rewards, beta)
  assert float(policy.sum()) == pytest.approx(1.0)
  for _ in range(50):
    near = jax.nn.softmax(jnp.log(policy) + 0.1 * jnp.array(draw.normal(size=9)))
    assert objective(near) < objective(policy)


def test_a_crossing_is_interpolated_where_a_curve_rises():
  assert bandit.crossing([0.0, 2.0, 6.0], [-3.0, -1.0, 1.0]) == 4.0
  assert bandit.crossing([0.0, 1.0], [1.0, 2.0]) is None


def test_a_run_writes_the_report(tmp_path, capsys):
  config = configurations.load("configs/bandit.py")
  small = ["--config.bandit.sft_steps=300", "--config.bandit.reward_steps=200"]
  # As `pit train` asks, which knows models alone.
  assert configurations.without_effect(config, configurations.change(config, small)) == []
  running.run(config, tmp_path / "run")
  results = json.loads((tmp_path / "run" / "report" / "results.json").read_text())
  assert results["recipe"] == "bandit" and results["seconds"]["bandit"] > 0
  assert {"teacher", "student", "sft", "rlaif"} == results["systems"].keys()
  assert results["config"]["bandit"]["sft_steps"] == 300

  page = (tmp_path / "run" / "report" / "report.html").read_text()
  for said in ("under-trained", "support", "By learning rate", "By the price of a nat", "<svg"):
    assert said in page
  assert {path.stem for path in (tmp_path / "run" / "report").glob("*.png")} == {
    "distributions",
    "students",
    "summary",
  }
  assert "Imitation of a teacher" in capsys.readouterr().out

  config = configurations.load("bandit:paper")
  with pytest.raises(ValueError, match="reward_steps: 200 there, 7500 now"):
    running.run(config, tmp_path / "run")


@pytest.mark.parametrize(
  "key, value, said",
  [
    ("arms", 1, "arms=1; use 2 or more"),
    ("spread", 0.0, "spread=0.0; use more than 0"),
    ("sft_steps", 0, "bandit.sft_steps=0; use 1 or more"),
    ("students", (50.0, 40.0), "students=(50.0, 40.0); use two or more, from the lowest"),
    ("betas", (0.1, 0.0), "betas=(0.1, 0.0); use some numbers, each more than 0"),
  ],
)
def test_what_cannot_be_is_refused(key, value, said):
  config = bandit_config.get_config().unlock()
  config.bandit[key] = value
  with pytest.raises(ValueError) as caught:
    checks.values(config, bandit.RECIPE)
  assert said in str(caught.value)


def test_what_wants_a_network_is_refused_in_words(tmp_path):
  config = bandit_config.get_config()
  with pytest.raises(ValueError, match="recipe bandit trains no network"):
    planning.arrays(config, bandit.RECIPE, jax.devices()[:1], None)
  with pytest.raises(ValueError, match="trains no model that could be asked again"):
    finished.evaluate(tmp_path, None, config)
  with pytest.raises(ValueError, match="--verify_resume: this recipe trains no network"):
    verify.run(config.to_dict(), tmp_path, [], steps=4, stop=2)
