"""Published shapes of preference data, by the field names on their cards; contents are made up."""

from pit_jax.data import conversations, preferences

PAIR = {"chosen": "yes", "rejected": "no"}


def said(role, content):
  return {"role": role, "content": content}


def sharegpt(speaker, text):
  return {"from": speaker, "value": text}


def talk(*contents):
  roles = ("user", "assistant")
  return [said(roles[i % 2], content) for i, content in enumerate(contents)]


def row(prompt="why?", chosen="yes", rejected="no", **more):
  return preferences.Preference(prompt, chosen, rejected, **more)


def asked(*contents, system=None):
  turns = [conversations.Turn("system", system)] if system else []
  roles = ("user", "assistant")
  turns += [conversations.Turn(roles[i % 2], content) for i, content in enumerate(contents)]
  return tuple(turns)


def safe(better, safer, **more):
  given = {"prompt": "why?", "response_0": "no", "response_1": "yes", "is_response_0_safe": True}
  return given | {"better_response_id": better, "safer_response_id": safer} | more


def helpsteer(prompt, response, helpfulness):
  names = ("correctness", "coherence", "complexity", "verbosity")
  ratings = {"helpfulness": helpfulness} | dict.fromkeys(names, 2)
  return {"prompt": prompt, "response": response} | ratings


def battle(winner, answers=("yes", "no"), asked_first="why?"):
  sides = {f"conversation_{side}": talk(asked_first, text) for side, text in zip("ab", answers)}
  return {"question_id": "1", "model_a": "m", "model_b": "n", "winner": winner, **sides, "turn": 1}


def kaggle(a=1, b=0, prompt='["why?"]', first='["yes"]', second='["no"]'):
  texts = {"prompt": prompt, "response_a": first, "response_b": second}
  flags = {"winner_model_a": a, "winner_model_b": b, "winner_tie": int(a == b)}
  return {"id": 3, "model_a": "m", "model_b": "n"} | texts | flags


def rated(make, prompt, label="label"):
  """Returns a shape of answers that are good or not, of which one has no other to its prompt."""
  answers = (("why?", "no", False), ("who?", "I", True), ("why?", "yes", True))
  lines = [make(text, answer) | {label: is_good} for text, answer, is_good in answers]
  return lines, [row(prompt, margin=1.0, scores=(1.0, 0.0))], {"only answer": 1}


def nectar(*ranks):
  texts = ("yes", "no", "oh")
  listed = [{"answer": text, "model": text[:1], "rank": rank} for text, rank in zip(texts, ranks)]
  return {"prompt": "\n\nHuman: why?\n\nAssistant: ", "answers": listed, "turns": 1, "source": "s"}


def ultrafeedback(*scores):
  texts = ("yes", "no", "oh")
  listed = [
    {"model": "m", "response": text, "overall_score": score, "custom_system_prompt": "be"}
    for text, score in zip(texts, scores)
  ]
  return {"source": "s", "instruction": "why?", "models": ["m"], "completions": listed}


def webgpt(first, second):
  question = {"dataset": "eli5", "id": "1", "full_text": "why?"}
  texts = {"answer_0": "yes", "answer_1": "no", "tokens_0": {"prefix": [1]}}
  scores = {"score_0": first, "score_1": second, "quotes_0": {"title": []}}
  return {"question": question} | scores | texts


ORCA = {"system": "be brief", "question": "why?", **PAIR}
DISTILABEL = {"instruction": "why?", "chosen_response": "yes", "rejected_response": "no"}
YES = [said("assistant", "yes")]
NO = [said("assistant", "no")]
REPLIES = {"chosen": talk("why?", "yes"), "rejected": talk("why?", "no")}
PARTS = [
  {"role": "user", "content": [{"type": "text", "text": "why?"}, {"type": "text", "text": ""}]}
]
MODELS = {"model_a": "m", "model_b": "n"}
JUDGED = {"orig_instruction": "why?", "orig_response_A": "no", "orig_response_B": "yes"}
BOTH = {"writers": ("m", "n")}

# shape → its rows, the preferences in them, and how many were left out, by reason
SHAPES = {
  "TRL, standard": ([{"prompt": "why?", **PAIR}], [row()], {}),
  "TRL, conversational": (
    [
      {"prompt": talk("why?"), "chosen": [said("assistant", "yes")], "rejected": talk("", "no")[1:]}
    ],
    [row(asked("why?"))],
    {},
  ),
  "TRL, implicit prompt": ([REPLIES], [row(asked("why?"))], {}),
  "HH-RLHF": (
    [{name: f"\n\nHuman: why?\n\nAssistant: {text}" for name, text in PAIR.items()}],
    [row(asked("why?"))],
    {},
  ),
  "HelpSteer": (
    [
      helpsteer("why?", "no", 1),
      helpsteer("who?", "I", 4),
      helpsteer("why?", "yes", 3),
      helpsteer("how?", "so", 2),
      helpsteer("how?", "thus", 2),
    ],
    [row(margin=2.0, scores=(3.0, 1.0))],
    {"only answer": 1, "equal ratings": 1},
  ),
  "HelpSteer2, preference": (
    [
      {"prompt": "why?", "response_1": "yes", "response_2": "no", "preference_strength": strength}
      for strength in (-2, 0, 1)
    ],
    [row(margin=2.0), row(chosen="no", rejected="yes", margin=1.0)],
    {"no preference": 1},
  ),
  "HelpSteer3, preference": (
    [
      {"domain": "general", "language": "en", "context": talk("hi", "ho", "why?")}
      | {"response1": "no", "response2": "yes", "overall_preference": strength}
      for strength in (3, 0)
    ],
    [row(asked("hi", "ho", "why?"), margin=3.0)],
    {"no preference": 1},
  ),
  "PKU-SafeRLHF": ([safe(1, 0, response_1_source="m", response_0_source="n")], [row(**BOTH)], {}),
  "SHP": (
    [
      {"post_id": "p", "domain": "ask", "history": "why?", "human_ref_A": "yes"}
      | {"human_ref_B": "no", "labels": label, "score_A": 8, "score_B": 2, "score_ratio": 4.0}
      for label in (1, 0)
    ],
    [row(scores=(8.0, 2.0)), row(chosen="no", rejected="yes", scores=(2.0, 8.0))],
    {},
  ),
  "Nectar": (
    [nectar(1.0, 2.0, 2.0)],
    [
      row(asked("why?"), rejected=text, margin=1.0, scores=(-1.0, -2.0), writers=("y", text[0]))
      for text in ("no", "oh")
    ],
    {"equal ratings": 1},
  ),
  "KTO": rated(
    lambda text, answer: {"prompt": talk(text), "completion": [said("assistant", answer)]},
    asked("why?"),
  ),
  "LLaMA-Factory, KTO": rated(
    lambda text, answer: {"messages": [said("system", "be brief"), *talk(text, answer)]},
    asked("why?", system="be brief"),
  ),
  "LLaMA-Factory, KTO of ShareGPT": rated(
    lambda *texts: {"conversations": [*map(sharegpt, ("human", "gpt"), texts)]},
    asked("why?"),
    label="kto_tag",
  ),
  "LLaMA-Factory, KTO of Alpaca": rated(
    lambda text, answer: {"instruction": text, "input": "of Kim", "output": answer},
    "why?\n\nof Kim",
    label="kto_tag",
  ),
  "Chatbot Arena": (
    [battle("model_a"), battle("tie"), battle("tie (bothbad)"), battle("model_b", ("no", "yes"))],
    [row(asked("why?"), position=1, **BOTH), row(asked("why?"), position=2, writers=("n", "m"))],
    {"no preference": 2},
  ),
  "LMSYS, human preference 55k": (
    [kaggle(), kaggle(0, 0), kaggle(0, 1, first='["no"]', second='["yes"]')],
    [row(asked("why?"), position=1, **BOTH), row(asked("why?"), position=2, writers=("n", "m"))],
    {"no preference": 1},
  ),
  "ShareGPT": (
    [
      {"conversations": [sharegpt("human", "why?")], "system": ""}
      | {name: sharegpt("gpt", text) for name, text in PAIR.items()}
    ],
    [row(asked("why?"))],
    {},
  ),
  "OpenAI, preference": (
    [
      {"input": {"messages": talk("why?"), "tools": [], "parallel_tool_calls": True}}
      | {"preferred_output": YES, "non_preferred_output": NO}
    ],
    [row(asked("why?"))],
    {},
  ),
  "orca_dpo_pairs": (
    [ORCA, ORCA | {"system": ""}],
    [row(asked("why?", system="be brief")), row()],
    {},
  ),
  "distilabel orca": (
    [
      {"system": "be brief", "input": "why?", **PAIR, "status": status, "rating": [9, 7]}
      for status in ("unchanged", "tie")
    ],
    [row(asked("why?", system="be brief"))],
    {"no preference": 1},
  ),
  "ultrafeedback-binarized, argilla": (
    [DISTILABEL | {"chosen_avg_rating": 4.5, "rejected_avg_rating": 2.0, "chosen_model": "m"}],
    [row(scores=(4.5, 2.0))],
    {},
  ),
  "ultrafeedback-binarized, H4": (
    [{"prompt": "why?", "prompt_id": "1", **REPLIES, "score_chosen": 8.0, "score_rejected": 5.0}],
    [row(asked("why?"), scores=(8.0, 5.0))],
    {},
  ),
  "UltraFeedback": (
    [ultrafeedback(8.0, 5.0, float("nan"))],
    [row(margin=3.0, scores=(8.0, 5.0), writers=("m", "m"))],
    {"missing field": 1},
  ),
  "contents as parts": ([{"prompt": PARTS, **PAIR}], [row(asked("why?"))], {}),
  "stack-exchange-paired": (
    [{"qid": 1, "question": "why?", "date": "d", "response_j": "yes", "response_k": "no"}],
    [row()],
    {},
  ),
  "stack-exchange-preferences": (
    [
      {"qid": 1, "question": "why?", "date": "d", "metadata": []}
      | {"answers": [{"text": "no", "pm_score": 0}, {"text": "yes", "pm_score": 3}]}
    ],
    [row(margin=3.0, scores=(3.0, 0.0))],
    {},
  ),
  "AlpacaEval, AlpacaFarm": (
    [
      {"instruction": "why?", "input": "", "output_1": "no", "output_2": "yes", "preference": liked}
      for liked in (2, 0, 1.5)
    ],
    [row()],
    {"no preference": 2},
  ),
  "UltraInteract_pair": (
    [{"task": "t", "trajectory": [sharegpt("user", "why?")], **PAIR, "id": "1", "parent_id": "0"}],
    [row(asked("why?"))],
    {},
  ),
  "Capybara-preferences": (
    [
      {"source": "s", "conversation": [{"input": "why?", "output": "yes"}], **REPLIES}
      | {"chosen_rating": 5, "rejected_rating": 3, "chosen_model": "m", "rejected_model": "n"}
    ],
    [row(asked("why?"), scores=(5.0, 3.0), **BOTH)],
    {},
  ),
  "dpo-mix-7k": (
    [{"dataset": "d", **REPLIES, "chosen_rating": 5.0, "rejected_rating": 4.0}],
    [row(asked("why?"), scores=(5.0, 4.0))],
    {},
  ),
  "WebGPT": (
    [webgpt(0.5, -0.5), webgpt(0.0, 0.0)],
    [row(margin=1.0, scores=(0.5, -0.5))],
    {"no preference": 1},
  ),
  "Preference-Collection": (
    [JUDGED | {"orig_preference": "B", "instruction": "###Task: judge", "output": "B"}],
    [row()],
    {},
  ),
  "RewardBench": (
    [{"prompt": "why?", **PAIR, "chosen_model": "m", "rejected_model": "n", "subset": "s"}],
    [row(**BOTH)],
    {},
  ),
  "RewardBench 2": (
    [{"id": "1", "prompt": "why?", "chosen": ["yes"], "rejected": ["no", "oh"], "subset": "s"}],
    [row(), row(rejected="oh")],
    {},
  ),
  "Tulu 3": (
    [{"id": "1", "source": "s", "prompt": "why?", **REPLIES, "chosen_rating": 5.0}],
    [row(asked("why?"))],
    {},
  ),
  "LLaMA-Factory, Alpaca pairs": (
    [{"instruction": "why?", "input": "of Kim", **PAIR, "system": "be brief"}],
    [row(asked("why?\n\nof Kim", system="be brief"))],
    {},
  ),
}
