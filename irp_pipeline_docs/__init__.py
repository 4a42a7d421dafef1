"""What makes the documentation site out of ``docs/`` and the code. Nothing of the package imports it."""
