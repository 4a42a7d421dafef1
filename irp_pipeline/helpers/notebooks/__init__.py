"""Notebooks as steps of a cycle.

Here: what identifies a notebook (:mod:`.source`), the parameters it gets (:mod:`.parameters`), what it gives back
(:mod:`.output`), executing it (:mod:`.executing`), the step that it is (:mod:`.step`), and the same step in a notebook
that a person opened (:mod:`.by_hand`). Not here: Dagster, and the sheet of the workbook that names notebooks.

papermill and Jupyter are imported only in the process that executes a notebook.
"""
