"""Hides torch from commands under test: most users have none, and to import it takes seconds."""

import sys

sys.modules["torch"] = None
