"""Workdirs in object storage; see places.py."""
