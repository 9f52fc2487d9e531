"""What every test shares: eight CPU devices, and the data directory beside the project."""

import os
import pathlib

# Before jax is imported: meshes are tested on eight devices that share the CPU.
FLAG = "--xla_force_host_platform_device_count"
if FLAG not in os.environ.get("XLA_FLAGS", ""):
  os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAG}=8".strip()
os.environ["JAX_PLATFORMS"] = "cpu"

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_platforms", "cpu")  # a plugin may have imported jax already

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
  """The directory with the public preference files; PIT_JAX_DATA names another one."""
  directory = pathlib.Path(os.environ.get("PIT_JAX_DATA", ROOT.parent / "shared" / "data"))
  if not directory.is_dir():
    pytest.skip(f"{directory} is absent; set PIT_JAX_DATA to a directory with hh_harmless.jsonl.gz")
  return directory
