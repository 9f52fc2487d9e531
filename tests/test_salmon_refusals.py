"""What of recipe `salmon` is refused before training."""

import dataclasses

import pytest
from salmon_run import config

from pit_jax.data import principles
from pit_jax.recipes import salmon
from pit_jax.recipes.salmon import banks, labelling
from pit_jax.run import checks


def test_a_class_of_no_prompt_is_refused(tmp_path):
  bank = banks.read(config())
  sums = principles.Principle("sums", "A.", "B.", classes=("maths",))
  other = dataclasses.replace(
    bank, principles=(*bank.principles, sums), classes={"maths": "integral"}
  )
  with pytest.raises(ValueError, match="sums is for prompts of maths, and none of 2 is"):
    labelling._check_classes(other, ["a", "b"])


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"salmon__bank": "/nowhere.yaml"}, "there is no file of principles /nowhere.yaml"),
    ({"salmon__response": "{prompt}"}, "salmon.response='{prompt}' does not show a response once"),
    ({"reward__pessimism": 0.5, "reward__members": 2}, "the mean of the heads is the reward"),
    ({"salmon__template": "{prompt}"}, "salmon.template='{prompt}' does not show both; use"),
    ({"salmon__principles": "answer,kind"}, "salmon.principles names 'answer,kind': there is no"),
    ({"salmon__others": (("a", "tone"), ("a", "answer"))}, "salmon.others names ['a', 'a']"),
    ({"salmon__others": (("a", "nothing"),)}, "salmon.others names 'nothing': there is no"),
    ({"salmon__others": ("tone",)}, "salmon.others=('tone',); use pairs of a name and a list"),
    ({"salmon__judge": "who"}, "salmon.judge='who'; use a name of feedback.raters"),
    ({"salmon__writer": "who"}, "salmon.writer='who'; use a name of feedback.writers"),
    ({"salmon__bank": "chat", "salmon__principles": "concise", "salmon__others": ()},
     "salmon.judge reads checks of the embedded task"),
    ({"reward__model": "somewhere"}, "this recipe trains its reward model"),
    ({"salmon__stop": 0.0}, "salmon.stop=0.0; use more than 0 and at most 1"),
  ],
)  # fmt: skip
def test_what_cannot_be_is_refused(changes, said):
  with pytest.raises(ValueError) as error:
    checks.values(config(**changes), salmon.RECIPE)
  assert said in str(error.value)


def test_a_judge_that_knows_no_principles_is_refused():
  made = config()
  with made.unlocked():
    made.feedback.raters.random = {"kind": "critic", "critic": "random"}
    made.salmon.judge = "random"
  with pytest.raises(ValueError) as error:
    checks.values(made, salmon.RECIPE)
  assert "which compares by no principle; use a rater of kind reader or" in str(error.value)
