"""Every way to start a run on TPUs or under Slurm ends in one command, and goes on after a loss.

The clouds' own tools are stood in for by scripts that write down what they are asked.
"""

import os
import pathlib
import shlex
import shutil
import subprocess
import sys

import pytest
import yaml

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "launch" / "tpu"
SCRIPTS = sorted(FOLDER.glob("*.sh"))
FLAGS = ["--config=configs/pit.py:tiny", "--workdir=/mnt/my runs", "--config.rl.steps=3"]
COMMAND = ["launch/train.py", *FLAGS]
SETTINGS = {
  "TPU": "slice", "ZONE": "zone", "TYPE": "v6e-16", "RUNTIME": "v2-alpha-tpuv6e", "PAUSE": "0",
  "CLUSTER": "cluster", "PROJECT": "project", "IMAGE": "image", "NAME": "name", "SLURM_JOB_ID": "7",
}  # fmt: skip
# Writes its arguments into a file, a line per call, and ends as the next line of another one says:
# with an exit code, and possibly with something to print.
STAND_IN = """#!/usr/bin/env bash
printf '%q ' "$(basename "$0")" "$@" >> "$PLACE/asked"
echo >> "$PLACE/asked"
[[ "$*" =~ $ANSWERED ]] || exit 0
answer="$(head -n 1 "$PLACE/answers")"
sed -i 1d "$PLACE/answers"
echo "${answer#* }"
exit "${answer%% *}"
"""


def run(script, place, answered="nothing is", answers=()):
  """Runs a script; returns its exit code and what it asked of the tools, as words."""
  for name in ("gcloud", "xpk", "srun", "scontrol"):
    (place / name).write_text(STAND_IN)
    (place / name).chmod(0o755)
  (place / "answers").write_text("".join(f"{answer}\n" for answer in answers))
  environment = {**os.environ, **SETTINGS, "PLACE": str(place), "ANSWERED": answered}
  environment["PATH"] = f"{place}{os.pathsep}{os.environ['PATH']}"
  done = subprocess.run([FOLDER / script, *FLAGS], env=environment, timeout=120, check=False)
  assert (place / "answers").read_text() == "", "asked less often than expected"
  return done.returncode, [shlex.split(line) for line in (place / "asked").open()]


def trained(call):
  """Returns what a call lets `python` run, as a shell reads it; None if it trains nothing."""
  words = [part for word in call for part in shlex.split(word.removeprefix("--command="))]
  if "launch/train.py" not in words:
    return None
  start = words.index("launch/train.py")
  assert words[start - 1].endswith("python")
  return words[start:]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_sound(path):
  subprocess.run(["bash", "-n", path], check=True)
  assert os.access(path, os.X_OK)
  beside = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]])
  if (checker := shutil.which("shellcheck", path=beside)) is None:
    pytest.skip("shellcheck is absent; pip install 'pit_jax[test]'")
  subprocess.run([checker, path], check=True)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_missing_setting_is_named(path, tmp_path):
  if path.name in ("slurm.sh", "environment.sh"):
    pytest.skip("needs none")
  done = subprocess.run(
    [path, *FLAGS], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True
  )
  assert done.returncode != 0 and any(name in done.stderr for name in ("TPU: ", "CLUSTER: "))


def test_a_slice_runs_the_command_on_all_hosts(tmp_path):
  code, (copy, install, train) = run("vm.sh", tmp_path)
  assert code == 0
  assert copy[4] == "scp" and all("--worker=all" in call for call in (copy, install, train))
  assert install[-1].endswith("pit_jax/launch/tpu/environment.sh .venv")
  assert trained(train) == COMMAND


# A Python of some version, and what its pip and venv and uv make: such a Python.
PYTHON = """#!/usr/bin/env bash
echo "$(basename "$0") $*" >> "$PLACE/asked"
here="${@: -1}"
case "$*" in
  -c*) [[ "$(basename "$0")" != python3 || "$SYSTEM" == fits ]] ;;
  "-m pip install -q --upgrade"*) mkdir -p .venv.uv/bin && cp "$PLACE/python3" .venv.uv/bin/uv ;;
  *venv*) mkdir -p "$here/bin" && cp "$PLACE/python3" "$here/bin/python" ;;
esac
"""


@pytest.mark.parametrize(
  "present, system, made",
  [
    (["python3", "python3.11"], "old", "python3.11 -m venv --clear .venv"),
    (["python3", "python3.11", "python3.12"], "old", "python3.12 -m venv --clear .venv"),
    (["python3"], "fits", "python3 -m venv --clear .venv"),
    (["python3"], "old", "uv venv -q --clear --seed --python=3.12 .venv"),
  ],
)
def test_a_host_gets_a_python_that_fits(tmp_path, present, system, made):
  (tmp_path / "bin").mkdir()
  for name in ("bash", "basename", "cp", "dirname", "mkdir"):
    (tmp_path / "bin" / name).symlink_to(shutil.which(name))
  for name in present:
    (tmp_path / "bin" / name).write_text(PYTHON)
    (tmp_path / "bin" / name).chmod(0o755)
  environment = {"PATH": str(tmp_path / "bin"), "PLACE": str(tmp_path / "bin"), "SYSTEM": system}
  script = [FOLDER / "environment.sh", ".venv"]
  subprocess.run(script, cwd=tmp_path, env=environment, check=True)
  asked = [
    line for line in (tmp_path / "bin" / "asked").read_text().splitlines() if " -c" not in line
  ]
  assert made in asked
  assert asked[-1] == f"python -m pip install -q jax[tpu] -e {FOLDER.parent.parent}[gcs]"


def verbs(calls):
  """Returns what was done to the queued resource, and when the command was started."""
  named = [
    call[4] if call[3] == "queued-resources" else trained(call) and "train" for call in calls
  ]
  return [verb for verb in named if verb not in (None, "describe")]


def test_a_slice_that_is_taken_away_is_asked_for_again(tmp_path):
  answers = ["1 ", "0 WAITING_FOR_RESOURCES", "0 ACTIVE", "255 lost", "0 SUSPENDING", "0 SUSPENDED"]
  # Another one; the run is stopped once by SIGTERM, and the slice stays.
  answers += ["1 ", "0 ACTIVE", "143 saved", "0 ACTIVE", "0 ACTIVE", "0 finished"]
  code, calls = run("queued.sh", tmp_path, "describe|launch/train.py", answers)
  assert code == 0
  assert verbs(calls) == ["create", "train", "delete", "create", "train", "train", "delete"]
  (create, _) = (call for call in calls if call[4] == "create")
  assert {"--spot", "--accelerator-type=v6e-16", "--node-id=slice"} <= set(create)
  assert all(trained(call) in (None, COMMAND) for call in calls)


def test_a_run_that_fails_on_a_slice_that_stays_is_given_up(tmp_path):
  answers = ["0 ACTIVE", "1 error", "0 ACTIVE"] * 3
  code, calls = run("queued.sh", tmp_path, "describe|launch/train.py", answers)
  assert code == 1
  assert verbs(calls) == ["train"] * 3


def test_kubernetes_starts_the_command_again_after_it_was_stopped(tmp_path):
  code, (call,) = run("gke.sh", tmp_path)
  assert code == 0 and call[:3] == ["xpk", "workload", "create"]
  assert {"--max-restarts=100", "--tpu-type=v6e-16", "--docker-image=image"} <= set(call)
  assert trained(call) == COMMAND


@pytest.mark.parametrize("ended, requeued", [(0, False), (143, True), (1, False)])
def test_slurm_goes_on_in_a_new_job_after_it_was_stopped(tmp_path, ended, requeued):
  code, (call, *more) = run("slurm.sh", tmp_path, "launch/train.py", [f"{ended} "])
  assert code == ended and call[0] == "srun"
  assert call[call.index("python") + 1 :] == COMMAND
  assert more == ([["scontrol", "requeue", "7"]] if requeued else [])
  options = (FOLDER / "slurm.sh").read_text()
  assert "#SBATCH --signal=TERM@300" in options and "#SBATCH --requeue" in options


def test_skypilot_gets_a_task_that_it_can_read():
  task = yaml.safe_load((FOLDER / "sky.yaml").read_text())
  known = {"name", "workdir", "resources", "envs", "setup", "run"}
  assert set(task) <= known and task["resources"]["use_spot"] is True
  subprocess.run(["bash", "-n"], input=f"{task['setup']}\n{task['run']}", text=True, check=True)
  words = shlex.split(task["run"])
  assert words == [
    ".venv/bin/python", "launch/train.py", "--config=$CONFIG", "--workdir=gs://$BUCKET/$RUN",
  ]  # fmt: skip
  assert set(task["envs"]) == {"CONFIG", "RUN", "BUCKET"}
  assert shlex.split(task["setup"]) == ["launch/tpu/environment.sh", ".venv"]
