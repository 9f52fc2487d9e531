"""No conversation is split over folds, however it is written down."""

import collections
import itertools

import pytest

from pit_jax.data import conversations, preferences, rows

# How public data and chat templates write turns, typed by hand: before the first turn, a user's
# turn, an assistant's, and what asks for the next reply.
FORMS = {
  "HH-RLHF": ("", "\n\nHuman: {}", "\n\nAssistant: {}", "\n\nAssistant:"),
  "a preamble": ("Below is a talk.\n\n", "Human: {}\n\n", "Assistant: {}\n\n", "Assistant:"),
  "a system's turn": ("System: Be kind.\n\n", "Human: {}\n\n", "Assistant: {}\n\n", "Assistant:"),
  "a greeting": ("Assistant: Hi!\n\n", "Human: {}\n\n", "Assistant: {}\n\n", "Assistant:"),
  "nothing asked for": ("", "Human: {}\n", "Assistant: {}\n", ""),
  "User": ("", "User: {}\n", "Assistant: {}\n", "Assistant:"),
  "USER in a line": ("A chat between two. ", "USER: {} ", "ASSISTANT: {}</s>", "ASSISTANT:"),
  "bold labels": ("Notes\n", "**User:** {}\n", "**AI:** {}\n", "**AI:**"),
  "Alpaca": (
    "Below is an instruction.\n\n",
    "### Instruction:\n{}\n\n",
    "### Response:\n{}\n\n",
    "",
  ),
  "Guanaco": ("", "### Human: {}", "### Assistant: {}", "### Assistant:"),
  "Llama 2": ("", "<s>[INST] {} [/INST]", " {} </s>", ""),
  "Llama 2, system": (
    "<s>[INST] <<SYS>>\nUser: none\n<</SYS>>\n\n",
    "{}[/INST]",
    "{}</s>[INST]",
    "",
  ),
  "ChatML": (
    "<|im_start|>system\nAs in:\nUser: x\nAssistant: y<|im_end|>\n",
    "<|im_start|>user\n{}<|im_end|>\n",
    "<|im_start|>assistant\n{}<|im_end|>\n",
    "<|im_start|>assistant\n",
  ),
  "Llama 3": (
    "<|begin_of_text|>",
    "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>",
    "<|start_header_id|>assistant<|end_header_id|>\n\n{}<|eot_id|>",
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
  ),
  "Gemma": (
    "<bos>",
    "<start_of_turn>user\n{}<end_of_turn>\n",
    "<start_of_turn>model\n{}<end_of_turn>\n",
    "<start_of_turn>model\n",
  ),
  "Zephyr": (
    "<|system|>\nBe.</s>\n",
    "<|user|>\n{}</s>\n",
    "<|assistant|>\n{}</s>\n",
    "<|assistant|>",
  ),
  "DeepSeek": (
    "<｜begin▁of▁sentence｜>",
    "<｜User｜>{}",
    "<｜Assistant｜>{}<｜end▁of▁sentence｜>",
    "",
  ),
  "Command R": (
    "<BOS_TOKEN>",
    "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>{}<|END_OF_TURN_TOKEN|>",
    "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{}<|END_OF_TURN_TOKEN|>",
    "",
  ),
  "OpenChat": (
    "",
    "GPT4 Correct User: {}<|end_of_turn|>",
    "GPT4 Correct Assistant: {}<|end_of_turn|>",
    "",
  ),
  "OpenAssistant": (
    "",
    "<|prompter|>{}<|endoftext|>",
    "<|assistant|>{}<|endoftext|>",
    "<|assistant|>",
  ),
  "HelpSteer": ("", "{}", "\n<extra_id_1>Assistant\n{}\n<extra_id_1>User\n", ""),
  "headings of Windows": (
    "",
    "### Instruction\r\n{}\r\n\r\n",
    "### Response\r\n{}\r\n\r\n",
    "### Response\r\n",
  ),
  "a dialogue in an instruction": (
    "### Instruction:\n",
    "User: {}\n",
    "Assistant: {}\n",
    "### Response:",
  ),
}
TALKS = 60


def contents(number, turns):
  """Returns what is said up to a turn of the user: a question, a reply, a question, …"""
  said = ("Question {}, part {}?", "Reply to {}, part {}.")
  return [said[turn % 2].format(number, turn) for turn in range(2 * turns - 1)]


def written(form, number, turns):
  """Returns the prompt of a conversation's turn, in one of FORMS."""
  before, user, assistant, asked = FORMS[form]
  said = ((user, assistant)[i % 2].format(part) for i, part in enumerate(contents(number, turns)))
  return before + "".join(said) + asked


def listed(number, turns, system):
  roles = itertools.cycle(("user", "assistant"))
  parts = zip(roles, contents(number, turns), strict=False)
  said = [conversations.Turn(role, part) for role, part in parts]
  return tuple([conversations.Turn("system", f"Be {system}.")] * bool(system) + said)


def folds_of(prompts_of_talks, **division):
  """Returns for every conversation the names of the folds that its prompts are in."""
  pairs = {prompt: number for number, prompts in enumerate(prompts_of_talks) for prompt in prompts}
  many = [preferences.Preference(prompt, "a", "b") for prompt in pairs]
  names = collections.defaultdict(set)
  for name, part in preferences.divide(many, 0.2, 0.2, **division).items():
    for row in part:
      names[pairs[row.prompt]].add(name)
  assert len(names) == len(prompts_of_talks)
  return names


@pytest.mark.parametrize("form", FORMS)
def test_all_turns_of_a_written_conversation_are_in_one_fold(form):
  names = folds_of([[written(form, n, turns) for turns in (1, 2, 3)] for n in range(TALKS)])
  assert {len(parts) for parts in names.values()} == {1}
  assert len(set.union(*names.values())) == 6  # and the conversations are in all of them


def test_how_a_conversation_is_written_does_not_move_it():
  forms = [*FORMS]
  names = folds_of([
    [
      f"Question {n}, part 0?",
      *(written(form, n, turns) for form in forms for turns in (1, 3)),
      *(listed(n, turns, system) for turns in (1, 2) for system in ("", "kind", "brief")),
    ]
    for n in range(TALKS)
  ])  # fmt: skip
  assert {len(parts) for parts in names.values()} == {1}


def test_real_dialogues_with_a_preamble_are_in_the_folds_of_the_bare_ones(shared_data):
  """The file's dialogues as texts of a prompt: 1,991 rows, many of them turns of one talk."""
  loaded = preferences.load(f"hh:{shared_data / 'hh_harmless.jsonl.gz'}", on_bad_row="skip")
  bare, with_preamble = (
    [
      rows.Preference(before + conversations.write(row.prompt), row.chosen, row.rejected)
      for row in loaded.rows
    ]
    for before in ("", "A human asks an assistant.\n\n")
  )
  held = [preferences.divide(many, 0.1, 0.1) for many in (loaded.rows, bare, with_preamble)]
  sizes = [{name: len(part) for name, part in parts.items()} for parts in held]
  assert sizes[0] == sizes[1] == sizes[2]


def test_clusters_keep_near_copies_in_one_fold():
  asked = [" ".join(f"word{n}x{i}" for i in range(24)) for n in range(TALKS)]
  names_nobody_knows = [
    "Customer: {}\nShop: yes",
    "Customer: {}\nShop: yes\nCustomer: When?\nShop:",
  ]
  groups = [
    *([text, text.upper(), text.replace(" ", "\n  ") + "?!", f"{text} indeed"] for text in asked),
    # Near copies of first turns, in conversations that go on differently.
    *([f"Human: {n} or\n\nAssistant: so {n}\n\nHuman: ah {n}", f"{n}  OR"] for n in range(TALKS)),
    *([form.format(f"a{n}") for form in names_nobody_knows] for n in range(TALKS)),
  ]
  by_prompt = folds_of(groups)
  assert sum(len(parts) > 1 for parts in by_prompt.values()) > len(groups) / 2
  by_cluster = folds_of(groups, fold_by="cluster")
  assert {len(parts) for parts in by_cluster.values()} == {1}
  backwards = folds_of([group[::-1] for group in groups[::-1]], fold_by="cluster")
  assert [*backwards.items()] != [*by_cluster.items()]
  assert all(backwards[len(groups) - 1 - n] == parts for n, parts in by_cluster.items())
  with pytest.raises(ValueError, match="fold_by is 'row'; use one of prompt, cluster"):
    folds_of(groups, fold_by="row")
