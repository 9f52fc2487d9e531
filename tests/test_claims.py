"""What the report says of the claims, and what a judge may be asked about its own choices."""

import copy
import html
import re

import numpy as np
import pytest
import report_example
import scipy.stats

from pit_jax.evaluate import seeds
from pit_jax.recipes import reward
from pit_jax.recipes.pit import claims, reward_tables
from pit_jax.report import claims as shared
from pit_jax.report import pages, tabular, verdict
from pit_jax.statistics import metrics, significance

METHOD, POOLED = report_example.METHOD, report_example.POOLED


def row(a, b, delta, ci95, judge="gold", **more):
  known = {"a": a, "b": b, "judge": judge, "temperature": 1.0, "n": 3072, "win": 50.0, "lose": 40.0}
  return known | {"tie": 10.0, "delta": delta, "ci95": ci95, "seed": "all"} | more


def results_of(*rows, passed=True, **more):
  gate = {"passed": passed, "reason": "original does not beat policy_sft under gold."}
  return {
    "recipe": "pit",
    "seconds": {},
    "systems": {},
    "comparisons": list(rows),
    "gate": gate,
  } | {**more}


PAIR = ("pit", "pit_second_only")


def test_a_sentence_says_claim_outcome_figure_judge_and_seeds():
  alone = [
    row(*PAIR, delta, (delta - 4.0, delta + 4.0), seed=seed, n=1024)
    for seed, delta in enumerate((-5.9, 5.3, 1.5))
  ]
  under_others = [row(*PAIR, 9.0, (5.0, 13.0), "R_P"), row(*PAIR, 9.0, (5.0, 13.0), "R_PIT")]
  whole = row(*PAIR, 0.29, (-2.34, 2.9))
  assert [one.sentence for one in claims.judged(results_of(*alone, *under_others, whole))] == [
    "The paper's claim that the curriculum beats its second stage alone is not borne out by this "
    "run: pit over pit_second_only Δ = +0.3% (95% interval −2.3 to +2.9; gold, 3,072 prompts), and "
    "the seeds disagree (−5.9%, +5.3%, +1.5%)."
  ]


@pytest.mark.parametrize(
  ("ci95", "of_seeds", "outcome"),
  [
    ((0.1, 9.0), [], shared.HERE),  # one seed tells of its own models
    ((0.0, 9.0), [], shared.NOT_SHOWN),
    ((-9.0, 0.0), [], shared.NOT_SHOWN),
    ((-9.0, -0.1), [], shared.OPPOSITE_HERE),
    # t intervals of three seeds: 4.303 s / √3 to both sides of the mean.
    ((0.1, 9.0), [4.0, 4.5, 5.0], shared.HOLDS),  # 3.3 to 5.7
    ((0.1, 9.0), [3.1, 4.1, 1.4], shared.HERE),  # −0.5 to 6.3
    ((-9.0, -0.1), [-3.1, -4.1, -1.4], shared.OPPOSITE_HERE),
    ((-9.0, -0.1), [-4.0, -4.5, -5.0], shared.OPPOSITE),
    ((-2.0, 9.0), [3.4, 3.5, 3.6], shared.NOT_SHOWN),  # 3.3 to 3.7, but the prompts do not say so
    ((0.1, 9.0), [-4.6, 9.0, 9.1], shared.NOT_SHOWN),  # a seed whose own interval lies below
    ((-9.0, -0.1), [4.6, -9.0, -9.1], shared.NOT_SHOWN),  # or above
  ],
)
def test_an_outcome_is_what_prompts_and_seeds_show(ci95, of_seeds, outcome):
  alone = [row(*PAIR, d, (d - 4.5, d + 4.5), seed=k) for k, d in enumerate(of_seeds)]
  known = {"over_seeds": significance.over_seeds(np.array(of_seeds))} if of_seeds else {}
  (claim,) = claims.judged(results_of(row(*PAIR, sum(ci95) / 2, ci95, **known), *alone))
  assert claim.outcome == outcome and shared.SAID[outcome] in claim.sentence


def test_the_seeds_of_the_paper_run_do_not_show_what_its_prompts_do():
  """Δ of three seeds, and their t intervals by a table of t: 4.3027 for 2 degrees."""
  for deltas, low, high in (((3.1, 4.1, 1.4), -0.5, 6.3), ((9.6, 25.5, 6.2), -11.8, 39.4)):
    found = significance.over_seeds(np.array(deltas))
    assert found["ci95"] == (pytest.approx(low, abs=0.06), pytest.approx(high, abs=0.06))
    mean = np.mean(deltas)
    pair = {"over_seeds": found}
    (claim,) = claims.judged(results_of(row(*PAIR, mean, (mean - 2.4, mean + 2.4), **pair)))
    assert claim.outcome == shared.HERE
    bounds = " to ".join(verdict.signed(bound) for bound in found["ci95"])
    assert f"over prompts, {bounds} over 3 seeds; gold" in claim.sentence


def test_claims_are_corrected_for_their_number():
  # 520 wins to 455 losses: p = 0.040 in a sign test, 0.080 for two of them.
  close = {"n": 1000, "win": 52.0, "lose": 45.5, "tie": 2.5}
  first = row("pit", "pit_first_only", 6.5, (0.4, 12.6), **close)
  second = row(*PAIR, 6.5, (0.4, 12.6), **close)
  p = scipy.stats.binomtest(520, 975).pvalue
  assert 0.025 < p < 0.05
  (claim,) = claims.judged(results_of(first))
  assert claim.outcome == shared.HERE and "corrected" not in claim.grounds
  for claim in claims.judged(results_of(first, second)):
    assert claim.outcome == shared.NOT_SHOWN
    assert claim.grounds.endswith(f"gold, 1,000 prompts; p = {2 * p:.2f} once corrected)")
  clear = [row("pit", other, 20.0, (15.0, 25.0)) for other in ("pit_second_only", "best_of_n")]
  outcomes = [claim.outcome for claim in claims.judged(results_of(first, *clear))]
  assert outcomes == [shared.HERE] * 3, "Holm: the largest p of three counts once"
  # Where the comparison was corrected among more of its judge, that counts.
  among_all = claims.judged(results_of(first | {"p_holm": 0.2}))
  assert among_all[0].outcome == shared.NOT_SHOWN and "p = 0.20 once" in among_all[0].grounds


def test_seeds_are_corrected_for_the_number_of_claims_too():
  found = significance.over_seeds(np.array([3.7, 4.5, 5.3]))
  assert 0.05 / 7 < found["p"] < 0.05  # t = 9.7
  pairs = [("pit", "pit_first_only"), PAIR, ("pit", "rlhf_longer"), ("pit", "best_of_n")]
  pairs += [("pit_rounds", other) for other in ("pit", "best_of_n", "self_refine_rounds")]
  rows = [row(*pair, 4.5, (2.0, 7.0), over_seeds=found) for pair in pairs]
  (alone,) = claims.judged(results_of(rows[0]))
  together = claims.judged(results_of(*rows))
  assert alone.outcome == shared.HOLDS
  assert [claim.outcome for claim in together] == [shared.HERE] * 7


def null_run(generator, prompts, between):
  """Returns results of one seed whose systems are equally good but for the seed's own luck."""
  rows, pairs = [], [(stated.a, stated.b) for stated in claims.STATED if not stated.is_at_best]
  for a, b in [("pit", "original"), *pairs]:
    lean = generator.normal(0, between) / 2
    signs = generator.choice([1, -1, 0], p=[0.4 + lean, 0.4 - lean, 0.2], size=prompts)
    known = vars(metrics.compare(signs, 0 * signs, resamples=200))
    rows.append({"a": a, "b": b, "judge": "gold", "temperature": 1.0, **known})
  return {"seconds": {}, "systems": {}, "reward_models": {}, "comparisons": rows}


def test_where_nothing_is_true_the_word_is_rare():
  """Sampling alone, and seeds that differ: prompts then tell of these models only."""
  generator, words = np.random.default_rng(0), {0.0: [], 0.1: []}
  for between in (0.0, 0.1):
    for _ in range(40):
      runs = {seed: null_run(generator, 200, between) for seed in range(3)}
      pooled = seeds.pool(runs, POOLED) | {"gate": {"passed": True, "reason": ""}}
      words[between].append({claim.outcome for claim in claims.judged(pooled)})
  likely = scipy.stats.binom.ppf(0.95, 40, significance.LEVEL)  # where 5% of the runs say it
  for between, said in words.items():
    surely = sum(bool(outcomes & {shared.HOLDS, shared.OPPOSITE}) for outcomes in said)
    assert surely <= likely, between
  here = {shared.HERE, shared.OPPOSITE_HERE}
  by_luck = [sum(bool(outcomes & here) for outcomes in words[between]) for between in words]
  assert by_luck[0] <= likely < 20 < by_luck[1], "of these models it is true, by their luck"


def test_best_temperatures_are_a_claim_of_their_own_and_not_judged_by_who_chose_them():
  plain, best = row("pit", "original", 30.0, (20.0, 40.0)), {"temperature": "best"}
  chosen = row("pit", "original", 50.0, (40.0, 60.0), "R_P", chosen_by="R_P", **best)
  assert claims.judged(results_of(plain)) == []
  (claim,) = claims.judged(results_of(plain, chosen))
  assert (claim.outcome, "only R_P compared" in claim.grounds) == (shared.NOT_TESTED, True)
  judged = row("pit", "original", -5.0, (-9.0, -1.0), n=512, **best)
  (claim,) = claims.judged(results_of(plain, chosen, judged))
  assert claim.outcome == shared.OPPOSITE_HERE and "gold, 512 prompts" in claim.grounds


def test_no_judge_decides_about_what_it_trained():
  pair = ("pit", "pit_rp_difference")
  own = [row(*pair, 5.0, (1.0, 9.0), judge) for judge in ("R_P", "R_PIT")]
  (claim,) = claims.judged(results_of(*own))
  assert claim.outcome == shared.NOT_TESTED and "only R_P and R_PIT compared" in claim.sentence
  (claim,) = claims.judged(results_of(*own, row(*pair, -5.0, (-9.0, -1.0), "R_judge")))
  assert claim.outcome == shared.OPPOSITE_HERE and "R_judge" in claim.sentence
  (claim,) = claims.judged(results_of(row(*pair, 5.0, (1.0, 9.0), n=0)))
  assert claim.grounds == "no prompt could be judged"


def test_what_nobody_played_is_not_tested_and_says_why():
  absent = {"self_refine": "no chat template"}
  pair = row("pit_rounds", "pit", 2.0, (1.0, 3.0))
  said = claims.judged(results_of(pair, absent=absent))
  assert [claim.outcome for claim in said] == [shared.HERE, shared.NOT_TESTED]
  assert said[1].sentence.endswith("was not tested: no chat template.")
  played = row("pit_rounds", "self_refine_rounds", 2.0, (1.0, 3.0))
  assert [claim.outcome for claim in claims.judged(results_of(played))] == [shared.HERE]
  policy = row("original", "policy_sft", 2.0, (1.0, 3.0))
  assert claims.said(results_of(policy, absent=absent)) == ([], ""), "it has no improver"


def test_a_single_stage_that_is_more_than_marginal_contradicts_table_2():
  marginal = row("pit_first_only", "original", 8.0, (claims.MARGINAL, 10.0))
  assert claims.judged(results_of(marginal)) == []
  clear = row("pit_second_only", "original", 69.2, (67.0, 71.4))
  (claim,) = claims.judged(results_of(marginal, clear))
  assert claim.outcome == shared.OPPOSITE_HERE and "pit_first_only" not in claim.sentence
  assert "pit_second_only over original Δ = +69.2% (95% interval +67.0 to +71.4" in claim.sentence
  # Seeds have to be beyond 7.2 too, and not beyond 0 alone.
  further = {shared.OPPOSITE_HERE: (8.0, 9.0, 10.0), shared.OPPOSITE: (68.0, 69.0, 70.0)}
  for outcome, deltas in further.items():
    over = significance.over_seeds(np.array(deltas))
    (claim,) = claims.judged(results_of(clear | {"over_seeds": over}))
    assert claim.outcome == outcome and over["p"] < 0.01


def test_a_shut_gate_leaves_one_sentence():
  results = results_of(row(*PAIR, 5.0, (1.0, 9.0)), passed=False, headline=list(PAIR))
  assert claims.said(results) == ([], "")
  said = pages.tables(results, METHOD)
  assert " ".join(said.split()).count("original does not beat policy_sft under gold") == 1


def test_page_and_terminal_say_every_claim(unrendered, tmp_path):
  results = report_example.example()
  said, remark = claims.said(results)
  assert len(said) == 4, "both stages, longer RLHF, and table 2"
  page = pages.write(results, tmp_path, METHOD).read_text(encoding="utf-8")
  page = html.unescape(re.sub(r"</?sub>", "", page)).replace("’", "'")
  terminal = re.sub(r"\s+", " ", pages.tables(results, METHOD))
  for claim in said:
    assert f"<dt>{claim.outcome}</dt><dd>{claim.sentence}</dd>" in page
    assert claim.sentence in terminal
  assert remark and remark in page and remark in terminal


def test_a_shut_gate_shows_no_samples_and_no_frontier_of_the_improver(unrendered, tmp_path):
  results = report_example.closed_gate()
  page = pages.write(results, tmp_path, METHOD).read_text(encoding="utf-8")
  text = re.sub(r"<title>.*?</title>|<meta[^>]*>", "", page, flags=re.DOTALL)
  assert text.count("This run supports no claim about PIT") == 1, "and nothing says it again"
  assert 'id="claims"' not in page
  assert "round by round" not in page and "regressions" not in page
  assert results["samples"] and "samples" not in verdict.presentable(results, METHOD)
  made = tabular.build(verdict.presentable(pages.check(results), METHOD), METHOD)
  for name in ("knee", "frontier"):
    assert {cells[0] for cells in made[name].rows} == {"policy"}


def test_the_table_of_gap_rewards_asks_no_judge_about_its_own():
  generator, ablation = np.random.default_rng(0), report_example.example()["ablation"]
  compared = {
    (a, b, judge): report_example.comparison(generator, "pit", "original", judge) | {"a": a, "b": b}
    for a, b in (("pit_rp_difference", "original"), ("pit", "pit_rp_difference"),
                 ("pit", "original"))
    for judge in ("R_P", "R_PIT", "R_judge")
  }  # fmt: skip

  def shown(*judges):
    rows = [row for key, row in compared.items() if key[2] in judges]
    table = reward_tables.gap_rewards({"comparisons": rows, "ablation": ablation})
    lines = (dict(zip(table.columns, row, strict=True)) for row in table.rows)
    return {line["trained with it"]: line for line in lines}

  alone, three = shown("R_P", "R_PIT"), shown("R_P", "R_PIT", "R_judge")
  assert [alone[name]["judge"] for name in ("pit", "pit_rp_difference")] == ["R_P", "R_PIT"]
  assert "pit over it %" not in alone["pit_rp_difference"], "both have a part in it"
  assert three["pit_rp_difference"]["judge"] == "R_judge"
  expected = verdict.signed(compared["pit", "pit_rp_difference", "R_judge"]["delta"])
  assert three["pit_rp_difference"]["pit over it %"] == expected


def test_ledgers_of_seeds_are_counted_together(unrendered, tmp_path):
  one = pages.check(report_example.example())
  other = copy.deepcopy(one)
  other["ledger"] |= {"prompts": 60, "regressions": 4}
  other["ledger"]["rounds"][2] |= {"kept": 0, "gap": None, "kl": None, "tokens": None}
  other["ledger"]["rounds"][0] |= {"kept": 60, "gap": 7.0, "win": 11}
  pooled = seeds.pool({3: one, 4: other}, POOLED)
  found, first = pooled["ledger"], one["ledger"]
  assert (found["prompts"], found["regressions"]) == (700, 94)
  assert found["shown"] == {"seed": 3, "prompts": 640, "regressions": 90}
  rounds, known = found["rounds"], first["rounds"]
  assert (rounds[0]["kept"], rounds[0]["win"]) == (700, known[0]["win"] + 11)
  assert rounds[0]["gap"] == pytest.approx(np.average([known[0]["gap"], 7.0], weights=[640, 60]))
  assert rounds[2]["gap"] == pytest.approx(known[2]["gap"])
  page = pages.write(pooled, tmp_path, METHOD).read_text(encoding="utf-8")
  assert "10 of 640 held-out prompts of seed 3: of 90 regressions" in page
  assert "is in each seed's ledger.jsonl" in page and "Of 700 prompts of all seeds" in page


def test_what_broke_the_form_of_self_refine_is_counted_over_seeds():
  compared = vars(metrics.compare(np.ones(4), np.zeros(4)))
  kinds = ({"no answer": 2}, {}, {"no answer": 1, "x": 4})
  rows = [{"k": 1, **compared, "kinds": counts} for counts in kinds]
  pooled = seeds._mean_row(rows, ("k",), prompts=range(3))
  assert pooled["kinds"] == {"no answer": 3, "x": 4}
  results = report_example.example() | {"self_refine": [pooled]}
  assert "no answer 3, x 4." in tabular.build(pages.check(results), METHOD)["self_refine"].note


def test_whose_labels_they_are_is_the_mean_over_seeds_as_their_number_is():
  rows = [{"k": 1, "pairs": 40.0, "by": by} for by in ({"a": 30, "b": 10}, {"a": 40}, {"b": 40})]
  pooled = seeds._mean_row(rows, ("k",), prompts=range(3))
  assert (pooled["pairs"], pooled["by"]) == (40.0, {"a": 23, "b": 17})


def test_accuracy_on_labels_is_said_with_its_intervals():
  def of(model, accuracy, balanced):
    known = {"pairs": "held out", "model": model, "n": 2000, "accuracy": accuracy}
    known |= {"accuracy_ci95": (accuracy - 0.02, accuracy + 0.02), "balanced": balanced}
    return known | {"balanced_ci95": (balanced - 0.03, balanced + 0.03)}

  rows = [of("the longer one", 0.55, 0.5), of("R_P", 0.703, 0.65)]
  results = {"recipe": "reward", "comparisons": [], "labels": {"accuracy": rows}}
  said = verdict.headline(results, reward.RECIPE.page)
  assert "R_P on 70.3% (95% interval 68.3 to 72.3) say" in said
  assert "the longer one on 55.0% (95% interval 53.0 to 57.0)." in said
  assert "R_P on 65.0% (95% interval 62.0 to 68.0) (chance: 50%)" in said
