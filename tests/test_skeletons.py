"""Templates that change contents: training sees what transformers renders, or refuses the row."""

import json

import chats
import pytest
import test_chat
import transformers

from pit_jax.data import (
  chat,
  conversations,
  encode,
  preferences,
  prompt_formats,
  rows,
  skeletons,
  values,
)

# As Qwen 3's: what earlier answers thought is left out, unless no user has asked since.
QWEN3 = (
  "{%- set ns = namespace(last=0) %}{%- for m in messages %}{%- if m.role == 'user' and not "
  "m.content.startswith('<tool_response>') %}{%- set ns.last = loop.index0 %}{%- endif %}"
  "{%- endfor %}{%- for m in messages %}{%- set content = m.content %}{%- set thought = '' %}"
  "{%- if m.role == 'assistant' and '</think>' in content %}"
  "{%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1] %}"
  "{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}"
  "{{- '<|im_start|>' + m.role + '\\n' }}{%- if m.role == 'assistant' and loop.index0 > ns.last %}"
  "{{- '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' }}{%- endif %}"
  "{{- content + '<|im_end|>\\n' }}{%- endfor %}"
  "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
CHANGED = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ CONTENT }}<|im_end|>\n{% endfor %}"
CHANGED += "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
FORMS = {  # → those that change contents
  "reasoning": QWEN3,
  "reasoning, as DeepSeek": CHANGED.replace(
    "CONTENT", "m.content.split('</think>')[-1] if m.role == 'assistant' else m.content"
  ),
  "replaced": CHANGED.replace("CONTENT", "m.content | replace('\\t', ' ') | replace('the', 'a')"),
  "escaped": CHANGED.replace("CONTENT", "m.content | e"),
  "spelled as JSON": CHANGED.replace("CONTENT", "m.content | tojson"),
  "lines trimmed": CHANGED.replace("CONTENT", "m.content.split('\\n') | map('trim') | join('\\n')"),
  "cut": CHANGED.replace("CONTENT", "m.content[:25]"),
}
# Roles of Gemma, and a template that trims: neither changes what a row holds.
GEMMA = (
  "{% for m in messages %}<|im_start|>{{ 'model' if m.role == 'assistant' else m.role }}\n"
  "{{ m.content | trim }}<|im_end|>\n{% endfor %}"
  "{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
)
ORDINARY = {
  "chatml": chats.CHATML,
  "llama3": chats.LLAMA3.replace("{{ bos_token }}", ""),
  "gemma": GEMMA,
}
TALK = (
  conversations.Turn("user", 'the letter & "so" on\n  please,\tmia <b>'),
  conversations.Turn("assistant", "<think>\nis it the rent?\n</think>\n\nthe bill is 12 . 'rent'"),
  conversations.Turn("user", "why {is} it 12 | and not a word more ?"),
)
DRAFT = "<think>hm</think>\n\nthe draft is 東 & more words than one"


def opened(directory, form):
  return test_chat.choose(chats.save(directory, "chatml", form))


def theirs(directory, messages):
  """Returns the text that transformers renders."""
  fast = transformers.AutoTokenizer.from_pretrained(directory)
  return fast.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def said(tokenizer, ids):
  """Returns token ids as text, special tokens included."""
  return tokenizer._rust.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("name", [*FORMS, *ORDINARY])
def test_contents_are_as_the_template_writes_them(tmp_path, name):
  form, tokenizer = opened(tmp_path, (FORMS | ORDINARY)[name])
  for prompt in (TALK, TALK[-1:]):
    messages = chats.spell(prompt)
    (ids,) = form.encode(tokenizer, form.formats["policy"].conversations([prompt])).ids
    assert said(tokenizer, ids) == theirs(tmp_path, messages)
    (ids,) = form.encode(tokenizer, form.formats["improver"].conversations([prompt], [DRAFT])).ids
    messages += [{"role": "assistant", "content": DRAFT}]
    messages += [{"role": "user", "content": test_chat.ASK}]
    assert said(tokenizer, ids) == theirs(tmp_path, messages)
    turns = tuple(conversations.Turn(**message) for message in messages[len(prompt) :])
    spoken = prompt_formats.Format("spoken", turns=turns)
    (again,) = form.encode(tokenizer, spoken.conversations([prompt])).ids
    assert said(tokenizer, again) == theirs(tmp_path, messages)


@pytest.mark.parametrize("name", FORMS)
def test_every_row_that_a_template_might_change_is_compared(tmp_path, name):
  """Whatever its place in the set, and though all the others are as they are."""
  form, tokenizer = opened(tmp_path, FORMS[name])
  rare = [(conversations.Turn("user", "a b"),)] * 70 + [TALK] + [(conversations.Turn("user", "c"),)]
  (*_, ids, _) = form.encode(tokenizer, form.formats["policy"].conversations(rare)).ids
  assert said(tokenizer, ids) == theirs(tmp_path, chats.spell(TALK))


@pytest.mark.parametrize("name", ORDINARY)
def test_few_rows_are_rendered_where_a_template_changes_nothing(tmp_path, monkeypatch, name):
  form, tokenizer = opened(tmp_path, ORDINARY[name])
  prompts = [f"rent {i}" for i in range(5 * chat.SAMPLED)]
  form.encode(tokenizer, form.formats["policy"].conversations(prompts[:2]))
  rendered = []
  render = type(tokenizer).render

  def counted(*arguments):
    rendered.append(arguments)
    return render(*arguments)

  monkeypatch.setattr(type(tokenizer), "render", counted)
  form.encode(tokenizer, form.formats["policy"].conversations(prompts))
  assert len(rendered) == 5


def test_a_sample_is_compared_whatever_it_holds(tmp_path, monkeypatch):
  """A change that neither a probe nor a spelled string shows is found where it is common."""
  form, tokenizer = opened(tmp_path, FORMS["cut"])
  monkeypatch.setattr(skeletons, "may_change", lambda *_: False)
  (first, *_) = form.encode(tokenizer, form.formats["policy"].conversations([TALK])).ids
  assert said(tokenizer, first) == theirs(tmp_path, chats.spell(TALK))


ENTANGLED = (  # a user's answer to a tool moves the place from which reasoning is kept
  conversations.Turn("user", "why"),
  conversations.Turn("assistant", "<think>hm</think>\n\nso"),
  conversations.Turn("user", "<tool_response>4</tool_response>"),
)


def test_what_cannot_be_taken_apart_is_refused_with_its_row(tmp_path):
  form, tokenizer = opened(tmp_path, QWEN3)
  with pytest.raises(ValueError, match=r"row 1, 'why': .*the user says in turn 3, '<tool_resp"):
    form.encode(tokenizer, form.formats["policy"].conversations([TALK, ENTANGLED]))
  with pytest.raises(values.RowError, match="refused by the chat template"):
    form.check(tokenizer, ENTANGLED)
  form.check(tokenizer, TALK)
  path = tmp_path / "rows.jsonl"
  lines = [
    {"prompt": chats.spell(talk), "chosen": "a", "rejected": "b"} for talk in (TALK, ENTANGLED)
  ]
  path.write_text("".join(json.dumps(line) + "\n" for line in lines))
  with pytest.raises(ValueError, match=r"rows\.jsonl, line 2: .*prompt: .*turn 3"):
    preferences.load(f"jsonl:{path}", check_prompt=lambda prompt: form.check(tokenizer, prompt))


def test_a_template_that_refuses_a_content_names_the_row(tmp_path):
  refusal = "raise_exception('no words') if 'rude' in m.content else m.content"
  strict = CHANGED.replace("CONTENT", refusal)
  form, tokenizer = opened(tmp_path, strict)
  with pytest.raises(ValueError, match="row 1, 'be rude': .*refuses the contents: no words"):
    form.encode(tokenizer, form.formats["policy"].conversations(["be kind", "be rude"]))


def test_the_sets_of_a_run_hold_the_rendering(tmp_path):
  form, tokenizer = opened(tmp_path, QWEN3)
  settings = encode.Settings(tokenizer, form, 600, 100)
  row = rows.Preference(prompt=TALK, chosen="so it is", rejected=DRAFT)
  prompts = encode.demonstrations([row], settings.formats["improver"], settings)[:].prompts
  messages = [*chats.spell(TALK), {"role": "assistant", "content": DRAFT}]
  messages += [{"role": "user", "content": test_chat.ASK}]
  expected = theirs(tmp_path, messages)
  assert said(tokenizer, prompts.tokens[0][prompts.mask[0]].tolist()) == expected
  assert "hm" not in expected and "rent?" not in expected
