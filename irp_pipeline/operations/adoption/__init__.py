"""Adoption: a schema that the old single-module framework made becomes one of this package, with every row and id.

``adopting``
    the whole of it, in one transaction; ``irp db adopt`` calls it.
``old_tables``
    the tables and columns of the old framework, and whether a schema has them.
``rows``
    what each old row becomes, and the repairs of what our tables would refuse.
``checks``
    what cannot be adopted, row by row; and whether everything has arrived.
``surroundings``
    what the team has built around the tables: views, foreign keys, triggers, rights.
``old_names``
    the old columns that notebooks go on using, kept in step with ours by triggers.
"""

from irp_pipeline.operations.adoption.adopting import Adoption, Repaired, adopt
from irp_pipeline.operations.adoption.old_tables import AdoptionError, is_of_old_framework

__all__ = ["Adoption", "AdoptionError", "Repaired", "adopt", "is_of_old_framework"]
