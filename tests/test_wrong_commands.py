"""Wrong commands end in one line on the standard error that says what is allowed, and no traceback.

All of them run in this process, as their entries are functions of the arguments.
"""

import importlib
import pathlib
import shutil

import pytest
import tiny_run

from pit_jax import __main__, hosts

ROOT = pathlib.Path(__file__).resolve().parent.parent
TINY = "--config=configs/pit.py:tiny"
OUT = "--workdir={tmp}/run"
ROWS = "--config.data.rows=300"
BARE = f"{ROWS} --config.model.base=none"
BASE = str(ROOT / "pit_jax" / "assets" / "base")
# The command → what its one line has to say: what is wrong, and what is allowed or to be done.
WRONG = {
  # train: options
  "train": "required: --config, --workdir",
  f"train {TINY}": "required: --workdir",
  f"train {TINY} {OUT} --wokdir=x": "--wokdir=x: no such option; --help explains those there are",
  f"train {TINY} {OUT} more": "more: give values as --config.",
  f"train {TINY} {OUT} --hosts=0": "'0' is not allowed; use a whole number, 1 or more",
  f"train {TINY} {OUT} --host=0": "--host=0 without --coordinator: give --coordinator=ADDRESS:PORT",
  f"train {TINY} {OUT} --replay=sft": "STAGE:STEP",
  f"train {TINY} {OUT} --verify_resume --verify_stop=9": "stop after 1 to 3",
  # train: configurations
  f"train --config=configs/none.py:tiny {OUT}": "there is no file configs/none.py; use one of "
  "ares, bandit, base, base_weak, base_words, cot, ",
  f"train --config=configs/pit.py:huge {OUT}": "size 'huge' is not known; use one of",
  f"train --config=README.md {OUT}": "README.md has no get_config",
  f"train --config=configs {OUT}": "there is no file configs; use one of",
  f"train --config=configs/common.py {OUT}": "configs/common.py wants a size",
  f"train {TINY} {OUT} --config.rl.stepz=3": "'rl.stepz' is no key of the configuration; near it "
  "are rl.steps",
  f"train {TINY} {OUT} --config.nothing.at.all=3": "its sections are",
  f"train {TINY} {OUT} --config.curriculum[9].steps=3": "'curriculum[9].steps' is no key",
  f"train {TINY} {OUT} --config.rl.steps=many": "'many' is no whole number; give one, as in",
  f"train {TINY} {OUT} --config.sft.packing=maybe": "'maybe' is neither True nor False; give one",
  f"train {TINY} {OUT} --config.rl=3": "config.rl=3",
  f"train {TINY} {OUT} --config.recipe=rhlf": "recipe 'rhlf' is not known; use one of ares, ",
  f"train --config=configs/rlhf.py {OUT} --config.recipe=pit": "recipe pit wants a section that is "
  "not there",
  f"train {TINY} {OUT} --config.sft.kind=zz": "sft.kind='zz'; use a kind of recipe pit, one of",
  f"train {TINY} {OUT} --config.data.rows=300 --config.mesh.shape=2,2": "mesh.shape=(2, 2)",
  f"train {TINY} {OUT} --config.data.rows=300 --config.mesh.shape=64,1,1": "does not fit",
  f"train {TINY} {OUT} --config.data.held_out=1.5": "held_out",
  f"train {TINY} {OUT} {BARE} --config.model.heads=0": "model.heads=0; use 1 or more",
  f"train {TINY} {OUT} {BARE} --config.model.layers=0": "model.layers=0; use 1 or more",
  f"train {TINY} {OUT} {BARE} --config.model.rope_theta=0": "model.rope_theta=0.0; use more than 0",
  f"train {TINY} {OUT} {ROWS} --config.mesh.shape=0,0,0": "or sizes of ('data', 'fsdp', 'tensor')",
  f"train {TINY} {OUT} {ROWS} --config.mesh.shape=auto,1": "use ('auto',), or sizes of",
  f"train {TINY} {OUT} {ROWS} --config.rl.batch_size=7": "has to be a multiple of",
  f"train {TINY} {OUT} {ROWS} --config.data.max_response_length=0": "use 1 or more",
  f"train {TINY} {OUT} {ROWS} --config.data.max_prompt_length=1": "use at least 6",
  f"train {TINY} {OUT} --config.reward.reader=zz": "reward.reader='zz'; use one of auto, chat, pai",
  f"train {TINY} {OUT} --config.evaluation.reward_reader=zz": "evaluation.reward_reader='zz'; use",
  f"train {TINY} {OUT} --config.evaluation.reward_backend=zz": "use one of auto, jax, torch",
  # train: data, models, places
  f"train {TINY} {OUT} --config.data.source=": "data.source=''; use synthetic, ",
  f"train {TINY} {OUT} --config.data.source=jsonl:absent.jsonl": "absent.jsonl",
  f"train {TINY} {OUT} --config.data.source=csvv:x.csv": "csvv",
  f"train {TINY} --workdir={{tmp}}/deep/run --config.data.source=csvv:x.csv": "csvv:x.csv",
  f"train {TINY} {OUT} --config.data.columns=promt=q": "calls 'q' 'promt', which nothing reads; "
  "near it is 'prompt'",
  f"train {TINY} {OUT} --config.data.on_bad_row=stop": "data.on_bad_row='stop'; use one of error",
  f"train {TINY} {OUT} --config.data.source={{tmp}}/empty.jsonl": "use jsonl:{tmp}/empty.jsonl",
  f"train {TINY} {OUT} --config.data.source=jsonl:{{tmp}}/empty.jsonl": "empty.jsonl",
  f"train {TINY} {OUT} --config.model.base=absent": "model.base=absent is no directory",
  # What is quickly known first: a base takes long to load.
  f"train {TINY} {OUT} --config.model.base=absent --config.data.source=jsonl:absent.jsonl": (
    "no file absent.jsonl "
  ),
  f"train {TINY} {OUT} --config.model.base=models/none": "set --config.model.base=DIRECTORY (",
  f"train {TINY} {OUT} --config.model.base=OWNER/NAME-7B": "hf download OWNER/NAME-7B --local-dir "
  "models/name-7b, then model.base=models/name-7b",
  f"train {TINY} {OUT} --config.model.base=some.Q4_K_M.gguf": "is a GGUF file: "
  "pit convert import --source=some.Q4_K_M.gguf",
  f"train {TINY} {OUT} --config.model.base={{tmp}}": "holds no config.json",
  f"train {TINY} {OUT} --config.model.base={{tmp}}/bare": "{tmp}/bare holds no readable tokenizer",
  f"train {TINY} {OUT} --config.model.base={{tmp}}/listed": "config.json must hold a JSON object",
  f"train {TINY} --workdir={{tmp}}/void": "void/config.json is of no run: it must hold a JSON obj",
  f"train {TINY} {OUT} --config.evaluation.temperatures=hot,cold": "use some numbers, each 0",
  f"train {TINY} {OUT} --config.reward.model=OWNER/REWARD": "reward.model=OWNER/REWARD",
  f"train {TINY} {OUT} --config.model.base=none --config.data.chat=chatml": "data.chat="
  "'chatml'; use one of auto, plain, model",
  f"train {TINY} {OUT} --config.model.base=none --config.data.chat=model": "has no chat template",
  f"train {TINY} --workdir=. ": "--workdir=. holds other files",
  f"train {TINY} --workdir={{tmp}}/empty.jsonl/run": "Not a directory",
  f"train {TINY} --workdir=/proc/none/run": "/proc/none",
  f"train {TINY} --workdir=s3://bucket/run": "give a local folder, or gs://BUCKET/FOLDER",
  f"train {TINY} --workdir={{tmp}}/other": "holds a run with another configuration",
  # improve
  "improve": "required: --workdir",
  "improve --workdir={tmp}/none --input={tmp}/empty.jsonl --output={tmp}/out.jsonl": "there is no "
  "folder {tmp}/none",
  "improve --workdir={tmp} --input={tmp}/none.jsonl --output={tmp}/o": "none.jsonl: No such file",
  "improve --workdir={tmp} --input={tmp}/empty.jsonl": "--input and --output go together",
  "improve --workdir={tmp} --input=- --output={tmp}/none/out": "there is no folder",
  "improve --workdir={tmp} --rounds=0": "'0' is not allowed; use a whole number, 1 or more",
  "improve --workdir={tmp} --mesh=2,x": "'x' is not allowed",
  # evaluate
  "evaluate": "required: --workdir",
  "evaluate --workdir={tmp}/none": "holds no run: there is no config.json",
  "evaluate --workdir={tmp}/void": "void/config.json is of no run: it must hold a JSON object",
  "evaluate --workdir={tmp}/half": "results.json is of no run: it must hold a JSON object",
  "evaluate --workdir={tmp}/other --experiment=speed": "recipe pit has no experiment 'speed'; it "
  "has main, ablation,",
  "evaluate --workdir={tmp}/other --with_data": "--with_data: nothing is exported",
  "evaluate --workdir={tmp}/other --config.evaluation.promts=3": "near it are evaluation.prompts",
  "evaluate --workdir={tmp}/other --experiment=length --export_preferences=x": "not allowed with",
  # convert
  "convert": "required: command",
  "convert improt --source=x --output=y": "choose from",
  "convert import --source={tmp}/none --output={tmp}/out": "{tmp}/none",
  "convert import --source={tmp}/listed --output={tmp}/out": "config.json must hold a JSON object",
  "convert export --workdir={tmp}/void --output={tmp}/out": "config.json must hold a JSON object",
  "convert import --source={tmp}/none.gguf --output={tmp}/out": "none.gguf",
  f"convert import --source={BASE} --output={{tmp}}/o --dtype=int8": "choose from",
  f"convert import --source={BASE} --output={BASE}": "is the source itself",
  "convert export --workdir={tmp}/none --output={tmp}/out": "{tmp}/none",
  # doctor
  "convert export --workdir={tmp}/letters --output={tmp}/out": "is a run of recipe base, which "
  "exports no models; ares, cot, dpo, ",
  "doctor": "required: --source",
  "doctor --source=jsonl:absent.jsonl": "absent.jsonl",
  "doctor --source=absent": "absent",
  "doctor --source=synthetic --rows=0": "'0' is not allowed; use a whole number, 1 or more",
  "doctor --source=synthetic --held_out=1": "'1' is not allowed; use at least 0 and below 1",
  "doctor --source=synthetic --rows=200 --html=/dev/full": "No space left on device; make room",
  "doctor --source=synthetic --rows=200 --json={tmp}/none/d.json": "No such file or directory",
  # plan, sweep, bench, paper
  "plan --config=configs/pit.py:tiny": "required: --topology, the chips to plan for; give one such",
  "plan --config=configs/pit.py:tiny --topology=cpu": "--topology=cpu is no topology of TPUs; give "
  "one such as v5e:16x16, v6e:8x8, v5p:4x4x8, tpu7x:2x2x1 or, for two slices, 2*v5e:16x16. There "
  "is no plan for CPUs and GPUs: start with",
  "plan --config=configs/pit.py:tiny --topology=v9:1x1": "",
  "plan --config=configs/pit.py:tiny --topology=v5e:2x2 --config.recipe=zz": "recipe 'zz' is not "
  "known; use one of ares, bandit, ",
  "config": "name one configuration, or two with --diff",
  "config pit:tiny --key=zz": "no key of pit:tiny begins so",
  "config pit:huge": "size 'huge' is not known",
  "config --diff pit:tiny": "expected 2 arguments",
  "config pit:tiny --config.rl.stepz=3": "'rl.stepz' is no key",
  f"train {TINY} {OUT} --values={{tmp}}/none.yaml": "none.yaml: No such file",
  f"train {TINY} {OUT} --values={{tmp}}/empty.jsonl": "empty.jsonl holds nothing; give keys with",
  "plan --config=configs/none.py --topology=v5e:2x2": "there is no file configs/none.py",
  f"sweep {TINY} --workdir={{tmp}}/s": "required: --sweep",
  f"sweep {TINY} --workdir={{tmp}}/s --sweep=none.py": "none.py holds no sweep",
  f"sweep {TINY} --workdir={{tmp}}/s --sweep=configs/sweeps/kl.py --workers=0": "a whole number",
  f"sweep {TINY} --workdir={{tmp}}/s --sweep=configs/sweeps/kl.py --x=1": "no such option",
  "sweep --config=configs/pit.py:huge --workdir={tmp}/s --sweep=configs/sweeps/kl.py": "size",
  "bench --model=OWNER/NAME": "hf download OWNER/NAME",
  f"bench --model={BASE} --cases=cooking": "cooking",
  f"bench --model={BASE} --batches=1,none": "'none' is not allowed",
  f"bench --model={BASE} --dtype=int8": "choose from",
  "paper --workdir={tmp}/p --seeds=0,x": "give whole numbers, as in --seeds=0,1,2",
  "paper --workdir={tmp}/p --config=configs/reward.py": "compares no systems that could be pooled",
  "paper": "required: --workdir",
}
LANGUAGE_JUDGE = "evaluation.language_judge"
WRONG |= {
  f"{command}{{tmp}}/adapter": "{tmp}/adapter holds adapters of PEFT (adapter_config.json)"
  for command in (
    f"train {TINY} {OUT} --config.model.base=",
    f"train {TINY} {OUT} --config.reward.model=",
    f"train {TINY} {OUT} --config.evaluation.reward_model=",
    f"train {TINY} {OUT} --config.{LANGUAGE_JUDGE}.base_url=local --config.{LANGUAGE_JUDGE}.model=",
    "bench --model=",
    "convert import --output={tmp}/o --source=",
  )
}  # fmt: skip


PLACED = {"adapter", "bare", "empty.jsonl", "half", "letters", "listed", "other", "void"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  """A folder of PLACED: an empty file, models and runs of which much is missing or wrong."""
  folder = tmp_path_factory.mktemp("wrong")
  (folder / "empty.jsonl").touch()
  (folder / "bare").mkdir()  # a model without its tokenizer
  shutil.copyfile(pathlib.Path(BASE) / "config.json", folder / "bare" / "config.json")
  content = tiny_run.config(data__rows=33).to_json()
  (folder / "adapter").mkdir()  # which may do without a tokenizer
  (folder / "adapter" / "adapter_config.json").write_text('{"peft_type": "LORA"}')
  (folder / "adapter" / "adapter_model.safetensors").touch()
  # A run, one with results that are none, and what has a list for a configuration.
  letters = '{"recipe": "base"}'
  for name, written in (
    ("letters", letters),
    ("other", content),
    ("half", content),
    ("void", "[]"),
    ("listed", "[]"),
  ):
    (folder / name).mkdir()
    (folder / name / "config.json").write_text(written)
  (folder / "half" / "report").mkdir()
  (folder / "half" / "report" / "results.json").write_text("[]")
  shutil.copyfile(pathlib.Path(BASE) / "tokenizer.json", folder / "listed" / "tokenizer.json")
  return folder


@pytest.mark.parametrize("command", WRONG)
def test_a_wrong_command_ends_in_one_line(command, place, monkeypatch, capfd):
  monkeypatch.chdir(ROOT)
  monkeypatch.setattr(hosts, "start", lambda *_, **__: None)  # before any device is asked for
  name, *arguments = command.replace("{tmp}", str(place)).split()
  module = importlib.import_module(f"pit_jax.commands.{name}")
  with pytest.raises(SystemExit) as ended:
    module.main(arguments)
  line = str(ended.value.code)
  assert line.startswith("error: ") and WRONG[command].replace("{tmp}", str(place)) in line
  assert "\n" not in line.strip() and len(line) < 700, line
  assert "Traceback" not in capfd.readouterr().err
  made = {path.name for path in place.iterdir()} - PLACED
  for folder in made:
    shutil.rmtree(place / folder, ignore_errors=True)
  assert not made, "nothing is left behind"


def test_the_list_is_long():
  assert len(WRONG) >= 56
  assert {command.split()[0] for command in WRONG} == {*__main__.names()}
