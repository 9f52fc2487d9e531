"""What every test shares: eight CPU devices, and the data directory beside the project."""

import dataclasses
import fcntl
import gc
import os
import pathlib
import shutil
import sys
import tempfile

# Before jax is imported: meshes are tested on eight devices that share the CPU.
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
os.environ["JAX_PLATFORMS"] = "cpu"

# Programs that one process compiled are found by the others: workers, and commands under test.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
  PROGRAMS = tempfile.TemporaryDirectory(prefix="pit_jax_programs_")
  os.environ["JAX_COMPILATION_CACHE_DIR"] = PROGRAMS.name
  os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

# Compiling is most of what tests wait for, and at their sizes faster programs win nothing back.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
CHEAPER = {
  "--xla_cpu_use_fusion_emitters": "false",  # which take thrice as long as those before them
  # In one part, since every part costs anew, and other workers have the cores that could share.
  "--xla_cpu_parallel_codegen_split_count": "1",
}
for option, value in CHEAPER.items():
  if option not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {option}={value}".strip()

# There are as many workers as cores, so that a second thread of torch has no core of its own, and
# the first one, which is awake while it waits, has taken ten times the seconds of CPU.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_platforms", "cpu")  # a plugin may have imported jax already

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # configs/ is no part of the installed package


def pytest_addoption(parser):
  """Adds what has whole recipes train a pretrained model."""
  parser.addoption("--smokes", action="store_true", help="run the tests that are marked smoke, too")


def pytest_collection_modifyitems(config, items):
  """Puts the files that take long first, so that no worker is left alone with one at the end."""
  if not config.getoption("--smokes"):
    skipped = pytest.mark.skip(reason="trains SmolLM2 for many minutes; run make smokes")
    for item in items:
      if item.get_closest_marker("smoke"):
        item.add_marker(skipped)
  long = {item.path for item in items if item.get_closest_marker("slow")}
  items.sort(key=lambda item: item.path not in long)


def pytest_terminal_summary(terminalreporter):
  """Says what the commands of tests took that recorded it as the property `took`."""
  ended = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
  told = [value for report in ended if report.when == "call"
          for name, value in report.user_properties if name == "took"]  # fmt: skip
  if told:
    terminalreporter.section("what commands took")
    for line in told:
      terminalreporter.write_line(line)


@pytest.fixture(scope="session", autouse=True)
def commands_alike():
  """Processes that tests start find the programs of the tests, whose options are the same."""
  from pit_jax import hosts  # after the devices are set up

  hosts.prepare()


@pytest.fixture(scope="session", autouse=True)
def commands_without_torch():
  """Processes that tests start see no torch; the tests themselves do."""
  hidden = str(ROOT / "tests" / "without_torch")
  given = os.environ.get("PYTHONPATH")
  os.environ["PYTHONPATH"] = os.pathsep.join([hidden, given] if given else [hidden])


@pytest.fixture(scope="module", autouse=True)
def room():
  """Has a process forget the programs of earlier files before it holds too many for the system."""
  from pit_jax import compiling  # after the devices are set up

  if compiling.share_of_maps() > 0.25:
    compiling.forget()


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
  """The directory with the public preference files; PIT_JAX_DATA names another one."""
  import real_data

  directory = real_data.DIRECTORY
  if not directory.is_dir():
    pytest.skip(f"{directory} is absent; set PIT_JAX_DATA to a directory with hh_harmless.jsonl.gz")
  return directory


def pytest_collection_finish():
  """Leaves imported modules and collected tests alone, and looks less often for what is garbage.

  Programs that were traced stay for the session, and every collection would walk through them all.
  """
  gc.collect()
  gc.freeze()
  gc.set_threshold(50_000, 20, 50)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory, worker_id):
  """A finished run of recipe pit, as small as it comes; read it, and copy it before writing.

  The worker that needs it first trains it, and the others read a copy of what it wrote.
  """
  import tiny_run  # after the devices are set up, and only where it is needed

  own = tmp_path_factory.mktemp("finished") / "run"
  if worker_id == "master":
    return tiny_run.finish(own)

  shared = tmp_path_factory.getbasetemp().parent / "finished"
  with shared.with_suffix(".lock").open("w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if shared.exists():
      shutil.copytree(shared, own)
      return tiny_run.read(own)
    run = tiny_run.finish(own)
    shutil.copytree(own, shared)
    return run


@pytest.fixture
def copied(finished_run, tmp_path):
  """The context of the finished run in a workdir that may be written to."""
  workdir = shutil.copytree(finished_run.workdir, tmp_path / "copy")
  return dataclasses.replace(finished_run.context, workdir=workdir)


@pytest.fixture
def unrendered():
  """Reports are written without painting their figures."""
  import tiny_run  # after the devices are set up

  with tiny_run.unrendered():
    yield


@pytest.fixture(scope="session")
def example_report(tmp_path_factory):
  """The report of the example's results, painted: the path of its page, and the page as read."""
  import report_example  # after the devices are set up
  import test_report

  from pit_jax.report import pages

  directory = tmp_path_factory.mktemp("report")
  path = pages.write(report_example.example(), directory, report_example.METHOD)
  return path, test_report.Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def tiny_export(tmp_path_factory):
  """A folder with the exported models that improve, of tiny_models; no test writes to it."""
  import tiny_models  # after the devices are set up

  from pit_jax.exchange import export

  folder = tmp_path_factory.mktemp("export")
  asking = tiny_models.inference_of(folder / "tokenizer")
  export.save(folder, asking, tiny_models.models_of(asking), zero_point=0.25)
  return folder


@pytest.fixture
def sampled(monkeypatch):
  """Records what is sampled, as (prompts, responses)."""
  from pit_jax.rollout import inference  # after the devices are set up

  respond, calls = inference.Inference.respond, []

  def recording(self, params, prompts, key, temperature, **how):
    responses = respond(self, params, prompts, key, temperature, **how)
    calls.append((prompts, responses))
    return responses

  monkeypatch.setattr(inference.Inference, "respond", recording)
  return calls
