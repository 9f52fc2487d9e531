"""What the report says of PIT: systems, sections, words, gate and claims."""

from collections.abc import Mapping

from pit_jax.recipes.pit import claims, diagram, figures, gate, reward_tables, round_tables
from pit_jax.recipes.reward import figures as reward_figures
from pit_jax.recipes.reward import tables
from pit_jax.recipes.rlhf import page
from pit_jax.report import palette, presentation, tabular

system = presentation.System
SYSTEMS = {
  "rlhf_longer": system("original, its RL carried on for the improver's RL steps", palette.PURPLE),
  "rlhf_longer_best_of_2": system(
    "of two samples of rlhf_longer the one with the higher R_P", "#58707c"
  ),
  "improver_sft": system("the improver before RL, on original", palette.MINT),
  "pit": system("the improver after the curriculum, on original", palette.TEAL),
  "pit_first_only": system("all RL steps on dataset references", "#c99a3d"),
  "pit_second_only": system("all RL steps on references from the policy", palette.RUST),
  "pit_single_term": system(
    "the curriculum with R_PIT trained on r(w,l) > r(l,w) alone", "#58707c"
  ),
  "pit_rp_difference": system(
    "the curriculum with R_P(x, y) − R_P(x, y_ref) as the reward", "#7f7a3c"
  ),
  "improver_dpo": system(
    "the improver before RL, after DPO on the pairs that R_PIT learns from", "#2f7f8f"
  ),
  "pit_again": system("pit, after a second round", "#9fb58a"),
  "pit_critique": system("pit, shown what a critic says of the draft", "#5a7d3a"),
  "pit_uncriticised": system("an improver that never saw a critique, on original", "#7a6a9d"),
  "pit_uncriticised_again": system("pit_uncriticised, after a second round", "#a69bbd"),
  "self_refine": system("the policy prompted to revise", "#a84a4f"),
  "pit_rounds": system("all rounds of pit, with the stop rule", "#3f5f8a"),
  "self_refine_rounds": system("all rounds of self_refine", "#8c5d3e"),
  "best_of_2": system("of two samples of original the one with the higher R_P", "#7f7a3c"),
  "best_of_n": system("of n samples of original the one with the highest R_P", "#6b7f38"),
  "gap_tournament": system("of n samples the one that R_PIT likes best among all", "#8a5a7d"),
}
TERMS = {
  "M_PIT": "the improver: a language model that reads a prompt and a draft and writes a better one",
  "R_PIT": "the gap reward model: how much better one response is than another; the improver "
  "learns from it, and it stops the rounds",
  "y_0, y_1, …": "an answer's versions: the draft, that of the first round, and so on",
}
STAGES = {
  "sft_improver": "Fine-tuning of the improver",
  "sft_improver_uncriticised": "Fine-tuning of the improver without critiques",
  "gap_reward": "Training of R_PIT",
  "dpo_improver": "DPO of the improver",
}
section = presentation.Section
SECTIONS = (
  tabular.COMPARED,
  section("More rounds", round_tables.ROUNDS, (figures.ROUNDS,)),
  section("Other temperatures", (round_tables.temperature,), (figures.TEMPERATURE,)),
  section("What it costs", (round_tables.cost, reward_tables.improvers), (figures.COST,)),
  tabular.OPTIMISED,
  section("Which gap reward, which stop rule?", reward_tables.MAKERS),
  tabular.CERTAINTY,
  section(
    tabular.MODELS.title,
    (*tabular.MODELS.tables, tables.gap_order, round_tables.discernment),
    (reward_figures.ORDER, figures.MARGINS),
  ),
  tabular.TRAINING,
)
LEGEND = (
  "Gap is R_PIT over the version before, less what no gain scores. KL is the version's log-ratio "
  "to M_PIT before reinforcement, in nats; its mean over samples estimates the divergence."
)


def together(results: Mapping) -> list[list[str]]:
  """Returns the stages of every curriculum that was trained; all of one are one optimisation."""
  parts = [part["name"] for part in results.get("config", {}).get("curriculum") or ()]
  stages = results.get("stages", {})
  # All of them have the curriculum's name before their own.
  first = f"_{parts[0]}" if parts else ""
  curricula = [name.removesuffix(first) for name in stages if first and name.endswith(first)]
  groups = [[f"{curriculum}_{part}" for part in parts] for curriculum in curricula]
  return [group for group in groups if all(name in stages for name in group)]


PAGE = presentation.Presentation(
  title="PIT, arXiv 2310.00898",
  systems=page.SYSTEMS | SYSTEMS,
  baseline="original",
  judges=page.JUDGES | {"R_PIT": "R_PIT, the gap reward model that also trained the improver"},
  headlines=page.HEADLINES
  | {("pit", "original"): ("One round of PIT", "the RLHF policy's answers")},
  gate=presentation.Gate(
    check=gate.check,
    hold_back=gate.hold_back,
    refusal="This run supports no claim about PIT, because {}.",
    remark="Every Δ of an improver is left out of this page, and so are its answers: beating a "
    "policy that its own training did not better proves nothing. Its mean scores stay, to find the "
    "fault by. results.json has all figures.",
  ),
  claims=claims.said,
  diagram=diagram.columns,
  sections=SECTIONS,
  terms=page.TERMS | TERMS,
  stages=page.STAGES | STAGES,
  rewards=page.REWARDS | {"scalar": "R_PIT"},
  legend=LEGEND,
  others={"self_refine": "Self-Refine"},
  together=together,
  tags=("pit", "self-improvement", "preference-learning"),
)
