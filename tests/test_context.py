"""What all stages of a run share."""

import jax

from pit_jax.stages import context as contexts


def test_programs_of_earlier_stages_are_dropped_unless_the_network_is_small(
  finished_run, monkeypatch
):
  double = jax.jit(lambda x: 2 * x)
  double(1)
  finished_run.context.release()
  assert double._cache_size() == 1
  monkeypatch.setattr(contexts, "SMALL", 1)
  monkeypatch.setattr(jax, "clear_caches", double.clear_cache)  # other tests keep their programs
  finished_run.context.release()
  assert double._cache_size() == 0
