"""The package as it is installed: on each Python that is here, with old and new dependencies."""
