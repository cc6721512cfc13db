"""Fixtures for the tests of users: found by pytest through its entry point."""
