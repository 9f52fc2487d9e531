"""What published preference data call things: one record per schema, so that a new one is an entry.

Cards on the Hugging Face hub say what the columns mean. Where several ratings of one answer could
decide, the record's `remark` says which one does.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pit_jax.data import comparisons, dialogues, ratings, summaries, values

PAIR = ("chosen", "rejected")
Made = dict[str, Any] | values.RowError


@dataclasses.dataclass(frozen=True)
class Schema:
  """A kind of row.

  Attributes:
    name: as `data.schema` gives it.
    columns: what such rows have; by these they are recognised.
    convert: turns a row's fields into those of preferences (`prompt`, `chosen`, `rejected`, …), any
      number of them, or into why there is none. Of a schema with one rated answer per row it
      returns prompt and answer; see `ratings.of_row`.
    optional: further columns that it reads where they are there.
    rates_one: whether each row is one answer with its rating.
    is_detected: whether rows are recognised by their columns; else it must be named.
    remark: what is said once where it was recognised and not named.
  """

  name: str
  columns: tuple[str, ...]
  convert: Callable[[Mapping], Iterable[Made] | tuple[Any, ratings.Answer]]
  optional: tuple[str, ...] = ()
  rates_one: bool = False
  is_detected: bool = True
  remark: str = ""


def _compare(**settings) -> Callable[[Mapping], list[dict]]:
  return functools.partial(comparisons.compare, **settings)


def _rename(prompt: str, **settings) -> Callable[[Mapping], list[dict]]:
  return functools.partial(comparisons.rename, prompt=prompt, **settings)


def _rated_talk(messages: str, rating: str) -> Callable[[Mapping], tuple[Any, ratings.Answer]]:
  return functools.partial(ratings.of_talk, messages=messages, rating=rating)


def _safe(column: str) -> Callable[[Mapping], list[dict]]:
  return _compare(
    responses=("response_0", "response_1"),
    verdict=comparisons.by_name(column, "0", "1"),
    writers=("response_0_source", "response_1_source"),
  )


def _unless_tied(fields: Mapping) -> list[dict[str, Any]]:
  """Leaves out what argilla/distilabel-intel-orca-dpo-pairs found to be a tie."""
  if values.read_optional(fields, "status") == "tie":
    raise values.LeftOut("no preference", "'status' is 'tie'")
  return comparisons.rename(fields, prompt="input")


SAFE = ("prompt", "response_0", "response_1")
SAFE_WRITERS = ("response_0_source", "response_1_source")

STANDARD = Schema("standard", PAIR, dialogues.split, ("prompt",))
SCHEMAS = (
  STANDARD,
  Schema("hh", PAIR, lambda fields: [dialogues.split_pair(fields)], is_detected=False),
  Schema("implicit", PAIR, lambda fields: [dialogues.split_beginning(fields)], is_detected=False),
  # openai/summarize_from_feedback
  Schema("summaries", ("info", "summaries", "choice"), summaries.convert, ("extra",)),
  # AlpacaEval, AlpacaFarm: who judges sees the two in an order of its own.
  Schema(
    "alpaca_eval",
    ("instruction", "output_1", "output_2", "preference"),
    _compare(
      prompt="instruction",
      context="input",
      responses=("output_1", "output_2"),
      verdict=comparisons.by_weight("preference"),
      writers=("generator_1", "generator_2"),
    ),
    ("input", "generator_1", "generator_2"),
  ),
  # nvidia/HelpSteer, nvidia/HelpSteer2
  Schema(
    "helpsteer",
    ("prompt", "response", "helpfulness"),
    functools.partial(ratings.of_row, content="response", rating="helpfulness"),
    rates_one=True,
    remark="answers are ranked by 'helpfulness'; the other ratings are not read",
  ),
  # nvidia/HelpSteer2, preference
  Schema(
    "helpsteer2",
    ("prompt", "response_1", "response_2", "preference_strength"),
    _compare(
      responses=("response_1", "response_2"),
      verdict=comparisons.by_sign("preference_strength", 3),
      has_margin=True,
    ),
  ),
  # nvidia/HelpSteer3, preference
  Schema(
    "helpsteer3",
    ("context", "response1", "response2", "overall_preference"),
    _compare(
      prompt="context",
      responses=("response1", "response2"),
      verdict=comparisons.by_sign("overall_preference", 3),
      has_margin=True,
    ),
  ),
  # PKU-Alignment/PKU-SafeRLHF
  Schema(
    "pku_better",
    (*SAFE, "better_response_id"),
    _safe("better_response_id"),
    SAFE_WRITERS,
    remark="'better_response_id' decides; with data.schema=pku_safer 'safer_response_id' does",
  ),
  Schema(
    "pku_safer",
    (*SAFE, "safer_response_id"),
    _safe("safer_response_id"),
    SAFE_WRITERS,
    is_detected=False,
  ),
  # stanfordnlp/SHP
  Schema(
    "shp",
    ("history", "human_ref_A", "human_ref_B", "labels"),
    _compare(
      prompt="history",
      responses=("human_ref_A", "human_ref_B"),
      verdict=comparisons.by_name("labels", "1", "0"),
      scores=("score_A", "score_B"),
    ),
    ("score_A", "score_B"),
  ),
  # berkeley-nest/Nectar
  Schema(
    "nectar",
    ("prompt", "answers"),
    functools.partial(
      ratings.of_list, prompt="prompt", answers="answers", content="answer", rating="rank", sign=-1
    ),
  ),
  # trl-lib/kto-mix-14k: unpaired; what has no opposite under its prompt is left out.
  Schema(
    "kto",
    ("prompt", "completion", "label"),
    functools.partial(ratings.of_row, content="completion", rating="label"),
    rates_one=True,
  ),
  # LLaMA-Factory's KTO rows: messages, ShareGPT's and Alpaca's
  Schema("kto_messages", ("messages", "label"), _rated_talk("messages", "label"), rates_one=True),
  Schema(
    "kto_sharegpt",
    ("conversations", "kto_tag"),
    _rated_talk("conversations", "kto_tag"),
    rates_one=True,
  ),
  Schema(
    "kto_alpaca",
    ("instruction", "output", "kto_tag"),
    functools.partial(
      ratings.of_row, prompt="instruction", context="input", content="output", rating="kto_tag"
    ),
    ("input",),
    rates_one=True,
  ),
  # lmsys/chatbot_arena_conversations, lmsys/mt_bench_human_judgments, arena-human-preference-100k
  Schema(
    "arena",
    ("conversation_a", "conversation_b", "winner"),
    _compare(
      prompt=None,
      responses=("conversation_a", "conversation_b"),
      verdict=comparisons.by_name(
        "winner", "model_a", "model_b", "tie", "tie (bothbad)", "both_bad", "bothbad"
      ),
      writers=("model_a", "model_b"),
      is_in_order=True,
    ),
    ("model_a", "model_b"),
  ),
  # lmsys/lmsys-arena-human-preference-55k
  Schema(
    "arena_texts",
    ("prompt", "response_a", "response_b", "winner_model_a", "winner_model_b"),
    comparisons.arena_texts,
    ("model_a", "model_b"),
  ),
  # LLaMA-Factory's ShareGPT pairs: {from, value}
  Schema("sharegpt", ("conversations", *PAIR), _rename("conversations")),
  # OpenAI's format for preference fine-tuning
  Schema("openai", ("input", "preferred_output", "non_preferred_output"), comparisons.openai),
  # Intel/orca_dpo_pairs
  Schema("question", ("question", *PAIR), _rename("question")),
  # argilla/distilabel-intel-orca-dpo-pairs
  Schema("input", ("input", *PAIR), _unless_tied, ("status",)),
  # LLaMA-Factory's Alpaca pairs
  Schema(
    "instruction", ("instruction", *PAIR), _rename("instruction", context="input"), ("input",)
  ),
  # argilla/ultrafeedback-binarized-preferences, argilla/distilabel-math-preference-dpo
  Schema(
    "distilabel",
    ("instruction", "chosen_response", "rejected_response"),
    _rename("instruction", chosen="chosen_response", rejected="rejected_response"),
  ),
  # openbmb/UltraFeedback
  Schema(
    "ultrafeedback",
    ("instruction", "completions"),
    functools.partial(
      ratings.of_list,
      prompt="instruction",
      answers="completions",
      content="response",
      rating="overall_score",
    ),
    remark="answers are ranked by 'overall_score'; no 'custom_system_prompt' is shown to a model",
  ),
  # openbmb/UltraInteract_pair
  Schema("trajectory", ("trajectory", *PAIR), _rename("trajectory")),
  # lvwerra/stack-exchange-paired
  Schema(
    "stack_exchange",
    ("question", "response_j", "response_k"),
    _rename("question", chosen="response_j", rejected="response_k"),
  ),
  # HuggingFaceH4/stack-exchange-preferences
  Schema(
    "stack_exchange_answers",
    ("question", "answers"),
    functools.partial(
      ratings.of_list,
      prompt="question",
      answers="answers",
      content="text",
      rating="pm_score",
      writer="author",
    ),
  ),
  # openai/webgpt_comparisons
  Schema("webgpt", ("question", "answer_0", "answer_1", "score_0", "score_1"), comparisons.webgpt),
  # prometheus-eval/Preference-Collection; `instruction` holds the judge's whole task.
  Schema(
    "prometheus",
    ("orig_instruction", "orig_response_A", "orig_response_B", "orig_preference"),
    _compare(
      prompt="orig_instruction",
      responses=("orig_response_A", "orig_response_B"),
      verdict=comparisons.by_name("orig_preference", "A", "B"),
    ),
    ("instruction", "input"),
  ),
)
BY_NAME = {schema.name: schema for schema in SCHEMAS}

# Well-known rows that hold no preference between two whole answers: columns → what to do.
UNREADABLE = (
  (
    ("message_id", "parent_id", "text", "role"),
    "the messages of a tree: of every two replies to one parent make a row with prompt, chosen and "
    "rejected, by their rank",
  ),
  (
    ("prompt", "completions", "labels"),
    "judgements of steps: make rows with prompt, chosen and rejected of whole answers",
  ),
  (("messages",), "demonstrations, with which nothing is compared"),
  (("conversations",), "demonstrations, with which nothing is compared"),
  (("instruction", "output"), "demonstrations, with which nothing is compared"),
  (("prompt", "completion"), "demonstrations, with which nothing is compared"),
  (("prompt", "response"), "demonstrations, with which nothing is compared"),
)
