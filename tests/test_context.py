"""What all stages of a run share."""

import dataclasses

import jax
import pytest
import tiny_run

from pit_jax.models import pure
from pit_jax.run import models as run_models


@pytest.mark.parametrize("limit", ["SMALL", "FULL"])
def test_programs_of_earlier_stages_are_dropped_unless_they_are_small_and_few(
  limit, finished_run, monkeypatch
):
  double = jax.jit(lambda x: 2 * x)
  double(1)
  finished_run.context.models.release()
  assert double._cache_size() == 1
  monkeypatch.setattr(pure if limit == "SMALL" else run_models, limit, 0)
  monkeypatch.setattr(jax, "clear_caches", double.clear_cache)  # other tests keep their programs
  finished_run.context.models.release()
  assert double._cache_size() == 0


def test_a_fold_that_a_stage_needs_is_not_left_out(tmp_path):
  config = tiny_run.config(data__folds=("reward",))
  with pytest.raises(
    ValueError, match=r"rl\.fold='rl'; use one of data\.folds=\('reward',\), .*; sft\.fold='sft'"
  ):
    tiny_run.build(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_metadata_does_not_tell_kernels_apart(finished_run, tmp_path):
  other = dataclasses.replace(finished_run.context.models.language.config, attention="splash")
  asking = dataclasses.replace(
    finished_run.context.models.inference, language=pure.language_model(other)
  )
  context = tiny_run.changed(finished_run.context, models={"inference": asking})
  assert context.metadata == finished_run.context.metadata
