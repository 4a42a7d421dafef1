"""Tests, in the layout of the package: unit, integration (one PostgreSQL), acceptance (whole programs)."""
