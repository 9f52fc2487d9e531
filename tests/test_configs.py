def test_x(finished_run):
  pass
