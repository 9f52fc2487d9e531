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
Columns = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Schema:
  """A kind of row."""

  name: str  # as `data.schema` gives it
  columns: Columns  # what such rows have; by these they are recognised
  # Turns a row's fields into those of preferences (`prompt`, `chosen`, `rejected`, …), any number
  # of them, or into why there is none. Of a schema with one rated answer per row it returns prompt
  # and answer; see `ratings.of_row`.
  convert: Callable[[Mapping], Iterable[Made] | tuple[Any, ratings.Answer]]
  optional: Columns = ()  # further columns that it reads where they are there
  rates_one: bool = False  # whether each row is one answer with its rating
  is_detected: bool = True  # whether rows are recognised by their columns; else it must be named
  remark: str = ""  # what is said once where it was recognised and not named
  inside: str = ""  # what each of a column's objects holds
  preferred: str = "`chosen`"  # which response is preferred


def _compared(
  name: str,
  columns: Columns,
  verdict: tuple,
  *,
  optional: Columns = (),
  is_detected: bool = True,
  remark: str = "",
  preferred: str,
  **settings: Any,
) -> Schema:
  """Returns a schema of two responses, whose columns are the prompt's, both's and the verdict's.

  Conversations have no column of a prompt. The verdict is what reads its column, and further
  arguments; settings are those of `comparisons.compare`.
  """
  *prompt, first, second, column = columns
  settings["prompt"] = prompt[0] if prompt else None
  settings |= {"responses": (first, second), "verdict": (verdict[0], column, *verdict[1:])}
  further = (settings.get("context"), *settings.get("writers", ()), *settings.get("scores", ()))
  convert = functools.partial(comparisons.compare, **settings)
  optional = (*filter(None, further), *optional)
  told = {"remark": remark, "preferred": preferred}
  return Schema(name, columns, convert, optional, is_detected=is_detected, **told)


def _given(
  name: str, convert: Callable, columns: Columns, optional: Columns = (), **told: str
) -> Schema:
  """Returns a schema whose columns a function takes after the fields, in this order.

  What is told are the schema's remark, inside and preferred.
  """
  rates_one = convert in (ratings.of_row, ratings.of_talk)

  def read(fields):
    return convert(fields, *columns, *optional)

  return Schema(name, columns, read, optional, rates_one=rates_one, **told)


def _unless_tied(fields: Mapping) -> list[dict[str, Any]]:
  """Leaves out what argilla/distilabel-intel-orca-dpo-pairs found to be a tie."""
  if values.read_optional(fields, "status") == "tie":
    raise values.LeftOut("no preference", "'status' is 'tie'")
  return comparisons.rename(fields, "input")


GOOD = "true, or the higher number, of two rows with one prompt"
SAFE = ("prompt", "response_0", "response_1")
SAFE_WRITERS = ("response_0_source", "response_1_source")

STANDARD = Schema("standard", PAIR, dialogues.split, ("prompt",))
SCHEMAS = (
  STANDARD,
  Schema("hh", PAIR, lambda fields: [dialogues.split_pair(fields)], is_detected=False),
  Schema("implicit", PAIR, lambda fields: [dialogues.split_beginning(fields)], is_detected=False),
  # openai/summarize_from_feedback
  Schema(
    "summaries",
    ("info", "summaries", "choice"),
    summaries.convert,
    ("extra",),
    inside="`info`: `post` or `article`, perhaps `title`; `summaries`: two of `text`",
    preferred="`choice` 0: the first of `summaries`; 1: the second",
  ),
  # AlpacaEval, AlpacaFarm: who judges sees the two in an order of its own.
  _compared(
    "alpaca_eval",
    ("instruction", "output_1", "output_2", "preference"),
    (comparisons.by_weight,),
    preferred="`preference` 1: `output_1`; 2: `output_2`; or nearer to one of them",
    context="input",
    writers=("generator_1", "generator_2"),
  ),
  # nvidia/HelpSteer, nvidia/HelpSteer2
  _given(
    "helpsteer",
    ratings.of_row,
    ("prompt", "response", "helpfulness"),
    remark="answers are ranked by 'helpfulness'; the other ratings are not read",
    preferred="the higher `helpfulness` of two rows with one `prompt`",
  ),
  # nvidia/HelpSteer2, preference
  _compared(
    "helpsteer2",
    ("prompt", "response_1", "response_2", "preference_strength"),
    (comparisons.by_sign, 3),
    preferred="`preference_strength` below 0: `response_1`; above: `response_2`",
    has_margin=True,
  ),
  # nvidia/HelpSteer3, preference
  _compared(
    "helpsteer3",
    ("context", "response1", "response2", "overall_preference"),
    (comparisons.by_sign, 3),
    preferred="`overall_preference` below 0: `response1`; above: `response2`",
    has_margin=True,
  ),
  # PKU-Alignment/PKU-SafeRLHF
  _compared(
    "pku_better",
    (*SAFE, "better_response_id"),
    (comparisons.by_name, "0", "1"),
    writers=SAFE_WRITERS,
    preferred="the one whose number is `better_response_id`, 0 or 1",
    remark="'better_response_id' decides; with data.schema=pku_safer 'safer_response_id' does",
  ),
  _compared(
    "pku_safer",
    (*SAFE, "safer_response_id"),
    (comparisons.by_name, "0", "1"),
    writers=SAFE_WRITERS,
    preferred="the one whose number is `safer_response_id`, 0 or 1",
    is_detected=False,
  ),
  # stanfordnlp/SHP
  _compared(
    "shp",
    ("history", "human_ref_A", "human_ref_B", "labels"),
    (comparisons.by_name, "1", "0"),
    scores=("score_A", "score_B"),
    preferred="`labels` 1: `human_ref_A`; 0: `human_ref_B`",
  ),
  # berkeley-nest/Nectar
  _given(
    "nectar",
    functools.partial(ratings.of_list, content="answer", rating="rank", sign=-1),
    ("prompt", "answers"),
    remark="answers are ordered by 'rank', of which 1 is the best; ratings, of which more is "
    "better, are read as 'pm_score' of 'text' beside a 'question'",
    inside="`answers`: any number of `answer`, `rank`, perhaps `model`",
    preferred="the lower `rank`: 1 is the best",
  ),
  # trl-lib/kto-mix-14k: unpaired; what has no opposite under its prompt is left out.
  _given("kto", ratings.of_row, ("prompt", "completion", "label"), preferred=GOOD),
  # LLaMA-Factory's KTO rows: messages, ShareGPT's and Alpaca's
  _given("kto_messages", ratings.of_talk, ("messages", "label"), preferred=GOOD),
  _given("kto_sharegpt", ratings.of_talk, ("conversations", "kto_tag"), preferred=GOOD),
  _given(
    "kto_alpaca", ratings.of_row, ("instruction", "output", "kto_tag"), ("input",), preferred=GOOD
  ),
  # lmsys/chatbot_arena_conversations, lmsys/mt_bench_human_judgments, arena-human-preference-100k
  _compared(
    "arena",
    ("conversation_a", "conversation_b", "winner"),
    (comparisons.by_name, "model_a", "model_b", "tie", "tie (bothbad)", "both_bad", "bothbad"),
    writers=("model_a", "model_b"),
    is_in_order=True,
    preferred="`winner`: model_a or model_b",
  ),
  # lmsys/lmsys-arena-human-preference-55k
  Schema(
    "arena_texts",
    ("prompt", "response_a", "response_b", "winner_model_a", "winner_model_b"),
    comparisons.arena_texts,
    ("model_a", "model_b"),
    preferred="the one whose `winner_…` is 1",
  ),
  # LLaMA-Factory's ShareGPT pairs: {from, value}
  _given("sharegpt", comparisons.rename, ("conversations", *PAIR)),
  # OpenAI's format for preference fine-tuning
  Schema(
    "openai",
    ("input", "preferred_output", "non_preferred_output"),
    comparisons.openai,
    inside="`input`: `messages`",
    preferred="`preferred_output`",
  ),
  # Intel/orca_dpo_pairs
  _given("question", comparisons.rename, ("question", *PAIR)),
  # argilla/distilabel-intel-orca-dpo-pairs
  Schema("input", ("input", *PAIR), _unless_tied, ("status",)),
  # LLaMA-Factory's Alpaca pairs
  _given("instruction", comparisons.rename, ("instruction", *PAIR), ("input",)),
  # argilla/ultrafeedback-binarized-preferences, argilla/distilabel-math-preference-dpo
  _given(
    "distilabel",
    comparisons.rename,
    ("instruction", "chosen_response", "rejected_response"),
    preferred="`chosen_response`",
  ),
  # openbmb/UltraFeedback
  _given(
    "ultrafeedback",
    functools.partial(ratings.of_list, content="response", rating="overall_score"),
    ("instruction", "completions"),
    inside="`completions`: any number of `response`, `overall_score`, perhaps `model`",
    preferred="the higher `overall_score`",
    remark="answers are ranked by 'overall_score'; no 'custom_system_prompt' is shown to a model",
  ),
  # openbmb/UltraInteract_pair
  _given("trajectory", comparisons.rename, ("trajectory", *PAIR)),
  # lvwerra/stack-exchange-paired
  _given(
    "stack_exchange",
    comparisons.rename,
    ("question", "response_j", "response_k"),
    preferred="`response_j`",
  ),
  # HuggingFaceH4/stack-exchange-preferences
  _given(
    "stack_exchange_answers",
    functools.partial(ratings.of_list, content="text", rating="pm_score", writer="author"),
    ("question", "answers"),
    inside="`answers`: any number of `text`, `pm_score`, perhaps `author`",
    preferred="the higher `pm_score`",
  ),
  # openai/webgpt_comparisons
  Schema(
    "webgpt",
    ("question", "answer_0", "answer_1", "score_0", "score_1"),
    comparisons.webgpt,
    inside="`question`: a text, or an object with `full_text`",
    preferred="the higher of `score_0` and `score_1`",
  ),
  # prometheus-eval/Preference-Collection; `instruction` holds the judge's whole task.
  _compared(
    "prometheus",
    ("orig_instruction", "orig_response_A", "orig_response_B", "orig_preference"),
    (comparisons.by_name, "A", "B"),
    preferred="`orig_preference`: A or B",
    optional=("instruction", "input"),
  ),
)
BY_NAME = {schema.name: schema for schema in SCHEMAS}

# Well-known rows that hold no preference between two whole answers: columns → what to do.
DEMONSTRATION = "demonstrations, with which nothing is compared"
UNREADABLE = {
  (
    "message_id",
    "parent_id",
    "text",
    "role",
  ): "the messages of a tree: of every two replies to one "
  "parent make a row with prompt, chosen and rejected, by their rank",
  ("prompt", "completions", "labels"): "judgements of steps: make rows with prompt, chosen and "
  "rejected of whole answers",
  ("messages",): DEMONSTRATION,
  ("conversations",): DEMONSTRATION,
  ("instruction", "output"): DEMONSTRATION,
  ("prompt", "completion"): DEMONSTRATION,
  ("prompt", "response"): DEMONSTRATION,
}
