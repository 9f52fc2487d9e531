"""Chat templates of exported models: they write the ids of training, answers and ends included."""

import functools

import chats
import jinja2
import pytest
import tokenizers
import transformers

from pit_jax.data import chat, conversations, gguf_text, template, text

ASK = 'Write a {{ better }} "one".\n'
TALKS = {
  "one turn": (("user", "  is 12.5 the bill?\n"),),
  "more turns": (("user", "the letter ?"), ("assistant", "to mia"), ("user", "(naïve) 東京")),
  "system": (("system", "be brief"), ("user", "the rent ?")),
}
# Written down in short after those of the families: what each does beside marking its turns.
QWEN3 = (  # the last assistant's turn has an empty thought, which a reply begins with by itself
  "{%- set ns = namespace(last=-1) %}{%- for message in messages %}"
  "{%- if message.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}"
  "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' }}"
  "{%- if message.role == 'assistant' and loop.index0 > ns.last %}"
  "{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
  "{{- message.content + '<|im_end|>' + '\\n' }}{%- endfor %}"
  "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}\n"
)
SHIFTED = (  # takes the system's turn out of the messages by their own name, and tells the date
  "{%- if messages[0]['role'] == 'system' %}{%- set rules = messages[0]['content'] %}"
  "{%- set messages = messages[1:] %}{%- else %}{%- set rules = 'none' %}{%- endif %}\n"
  "{% macro turn(role, said) %}<|im_start|>{{ role }} {{ said }}<|im_end|>{% endmacro %}\n"
  "{{- turn('system', strftime_now('%d %b %Y') + rules) }}\n"
  "{%- for m in messages %}{{ turn(m['role'], m['content']) }}{% endfor %}\n"
  "{%- if add_generation_prompt %}<|im_start|>assistant {% endif %}"
)
VICUNA = (  # a reply follows a space that the prompt ends in
  "{% for m in messages %}{% if m['role'] == 'user' %}{{ 'USER: ' + m['content'] }}"
  "{% elif m['role'] == 'assistant' %}{{ ' ASSISTANT: ' + m['content'] + '<|im_end|>' }}"
  "{% else %}{{ m['content'] + '\\n' }}{% endif %}{% endfor %}"
  "{% if add_generation_prompt %}{{ ' ASSISTANT: ' }}{% endif %}"
)
# Begins no reply, though earlier ones follow a name and a space.
UNASKED = VICUNA.replace("{% if add_generation_prompt %}{{ ' ASSISTANT: ' }}{% endif %}", "")
FORMS = {
  "plain": ("llama3", None),
  "chatml": ("chatml", None),
  "llama3": ("llama3", None),
  "mistral": ("mistral", None),
  "qwen3": ("chatml", QWEN3),
  "shifted": ("chatml", SHIFTED),
  "vicuna": ("chatml", VICUNA),
  "unasked": ("chatml", UNASKED),
}


@pytest.fixture(scope="module", params=FORMS)
def opened(request, tmp_path_factory):
  """Returns a form's name, the form, its tokenizer, and what opens a tokenizer with a template."""
  name, form = FORMS[request.param]
  folder = tmp_path_factory.mktemp(request.param)
  words = chats.save(folder / "base", name, form, adds_bos=name == "llama3")
  kind = "plain" if request.param == "plain" else "model"
  form, words = chat.choose(kind, words, template.Template(), ASK)

  return request.param, form, words, functools.partial(save, folder, form, words)


def save(folder, form, words, **kind):
  """Returns the tokenizer of an exported model."""
  place = folder / "-".join(f"{name}-{value}" for name, value in kind.items())
  borders = form.borders(shows_reference=kind["shows_reference"]) if kind["is_scored"] else ()
  words.save(place, form.chat(words, **kind), borders=borders)
  return transformers.AutoTokenizer.from_pretrained(place)


def rendered(fast, talk, *answers, **options):
  """Returns the ids that transformers gives of a conversation and answers, text and ids apart."""
  messages = [{"role": role, "content": content} for role, content in talk]
  messages += [{"role": "assistant", "content": answer} for answer in answers]
  text = fast.apply_chat_template(messages, tokenize=False, **options)
  ids = fast.apply_chat_template(messages, return_dict=False, **options)
  assert fast(text).input_ids == ids  # as a pipeline reads it
  return ids


def trained_on(form, words, talk, *answers):
  """Returns the ids of training: of a prompt, which may show a reference, and of an answer."""
  prompt = tuple(conversations.Turn(role, content.strip()) for role, content in talk)
  *references, answer = answers
  if references:
    (asked,) = form.encode(words, form.formats["improver"].conversations([prompt], references)).ids
  else:
    (asked,) = form.encode(words, form.formats["policy"].conversations([prompt])).ids
  return asked, form.encode_responses(words, [answer]).ids[0]


@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("answer", [" to mia,\nplease ", "", "東京"])
def test_what_a_reward_model_is_shown_ends_with_the_trained_end(opened, talk, answer):
  name, form, words, served = opened
  if (name, talk) == ("mistral", "system"):
    pytest.skip("the template has no system's turn")
  for references in ((), (" the rent ",)):
    fast = served(shows_reference=bool(references), is_scored=True)
    asked, said = trained_on(form, words, TALKS[talk], *references, answer)
    assert said[-1] == words.eos_id
    for flag in (False, True):  # whether a reply is to be begun is not asked
      options = {"add_generation_prompt": flag}
      assert rendered(fast, TALKS[talk], *references, answer, **options) == asked + said


@pytest.mark.parametrize("talk", TALKS)
def test_the_improver_is_shown_the_draft_and_may_be_shown_its_answer(opened, talk):
  name, form, words, served = opened
  if (name, talk) == ("mistral", "system"):
    pytest.skip("the template has no system's turn")
  fast = served(shows_reference=True, is_scored=False)
  asked, said = trained_on(form, words, TALKS[talk], " the rent ", "to mia")
  assert rendered(fast, TALKS[talk], " the rent ", add_generation_prompt=True) == asked
  assert rendered(fast, TALKS[talk], " the rent ", "to mia") == asked + said


@pytest.mark.parametrize("talk", ["one turn", "more turns"])
def test_the_policy_is_asked_as_it_was_trained(opened, talk):
  """A reply that begins with a space follows a prompt that does not end in one."""
  *_, form, words, served = opened
  fast = served(shows_reference=False, is_scored=False)
  asked, said = trained_on(form, words, TALKS[talk], "to mia")
  talk = [(role, content.strip()) for role, content in TALKS[talk]]  # as rows are
  assert rendered(fast, talk, add_generation_prompt=True) == asked
  assert words.eos_id == said[-1]


def test_the_policy_of_a_plain_form_may_be_shown_its_answer(opened):
  name, form, words, served = opened
  fast = served(shows_reference=False, is_scored=False)
  if name != "plain":
    return
  asked, said = trained_on(form, words, TALKS["more turns"], "to mia")
  assert rendered(fast, TALKS["more turns"]) == asked
  assert rendered(fast, TALKS["more turns"], "to mia") == asked + said


def test_messages_that_end_in_another_way_are_refused(opened):
  """Or every answer would have one score, that of the prompt."""
  *_, served = opened
  user = TALKS["one turn"]
  score = served(shows_reference=False, is_scored=True)
  gap = served(shows_reference=True, is_scored=True)
  improver = served(shows_reference=True, is_scored=False)
  for fast, answers, said in (
    (score, (), "the user's, and the assistant's answer to it"),
    (score, ("a", "b"), "the user's, and the assistant's answer to it"),
    (gap, ("a",), "the user's, the assistant's reference, and the assistant's answer"),
    (gap, (), "the user's, the assistant's reference"),
    (improver, (), "the assistant's answer that is to be improved"),
  ):
    with pytest.raises(jinja2.TemplateError, match=said):
      rendered(fast, user, *answers)


def test_no_token_joins_an_answer_and_the_plain_forms_own_text(tmp_path):
  """Tokenizers that split as Llama 3's have a token for a mark and the line break after it."""
  learnt = tokenizers.Tokenizer(tokenizers.models.BPE())
  splits = gguf_text.SPLITS["llama-bpe"]
  learnt.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(splits)
  learnt.decoder = tokenizers.decoders.ByteLevel()
  alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
  options = {"initial_alphabet": alphabet, "special_tokens": ["<pad>", "<eos>"]}
  trainer = tokenizers.trainers.BpeTrainer(vocab_size=280, show_progress=False, **options)
  learnt.train_from_iterator(["why?\nso.\nno!\n"] * 9, trainer)
  fast = transformers.PreTrainedTokenizerFast(
    tokenizer_object=learnt, eos_token="<eos>", pad_token="<pad>"
  )
  fast.save_pretrained(tmp_path / "base")
  words, form = text.load_tokenizer(tmp_path / "base"), template.Template()
  assert len(words.encode("?\n")) == 1
  talk = (("user", "why?"),)
  for references in ((), ("so.",)):
    served = save(tmp_path, form, words, shows_reference=bool(references), is_scored=True)
    asked, said = trained_on(form, words, talk, *references, "no!")
    assert rendered(served, talk, *references, "no!") == asked + said
