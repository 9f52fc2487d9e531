"""Statistics of comparisons: arrays of outcomes and lengths in, figures with intervals out."""
