"""The decoder, its heads, and the seam that turns both into pure functions."""
