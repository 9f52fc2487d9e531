"""Files that have to hold a JSON object and hold something else are named, in one line."""

import pathlib
import shutil

import pytest

from pit_jax.commands import convert
from pit_jax.exchange import directories, export, hf, merging, peft

BASE = pathlib.Path(export.__file__).parents[1] / "assets" / "base"
FILES = (
  "config.json",
  "model.safetensors.index.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "generation_config.json",
)


@pytest.mark.parametrize("content", ["[]", '"text"', "3"])
@pytest.mark.parametrize("name", FILES)
def test_a_model_whose_file_holds_another_kind_of_json_is_refused(tmp_path, name, content):
  shutil.copytree(BASE, tmp_path / "base")
  (tmp_path / "base" / name).write_text(content)
  with pytest.raises(SystemExit) as ended:
    convert.main(["import", f"--source={tmp_path / 'base'}", f"--output={tmp_path / 'new'}"])
  line = str(ended.value.code)
  assert line.startswith("error: ") and "\n" not in line
  assert f"{name} must hold a JSON object" in line and str(tmp_path / "base") in line


def test_adapters_and_indices_are_named_too(tmp_path):
  (tmp_path / "adapter_config.json").write_text("[]")
  said = "adapter_config.json must hold a JSON object, not list"
  with pytest.raises(ValueError, match=said):
    peft.read(tmp_path)
  with pytest.raises(ValueError, match=said):
    merging._described(tmp_path / "adapter_config.json")
  with pytest.raises(ValueError, match="holds adapters of PEFT"):
    directories.refuse_adapters(tmp_path)
  for content in ("{}", '{"weight_map": []}'):
    (tmp_path / hf.INDEX).write_text(content)
    with pytest.raises(ValueError, match="has no weight_map"):
      hf.Directory(tmp_path)
