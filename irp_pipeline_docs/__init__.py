"""Makes the documentation site from ``docs/`` and the code. The package does not import it."""
