"""From scores to verdicts: comparisons with intervals, and the report that shows them."""
