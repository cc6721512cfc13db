"""Adoption under load: the original table, its programs, and workers at once."""
