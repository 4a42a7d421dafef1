"""The risk engine Oasis Platform: a model of Oasis LMF that a Platform of the user's organisation runs.

``declaration``, ``columns``
    its declaration, which is all that other code uses; its columns of the sheet Analyses.
``engine``
    what it does with jobs: each call drives a job forward as far as it can without waiting.
``job_folder``
    the files of a job on this machine.
``platform``
    the objects of a job at the Platform: model, portfolio, analysis. They are found by content and name.
``connection``, ``errors``
    requests to the Platform, and what can go wrong with them.
``progress``
    what the status of an analysis means.
``results``
    from the files of a finished analysis to its figures.

A job is an analysis that is named by the job's key; its exposure is a portfolio that is named by the exposure's hash.
Before each step they are looked for by name, so that a step that was interrupted at any point is found again. If there
are two of one name, since a reply was lost or a request arrived twice, everybody takes the one with the lowest id.

https://oasislmf.github.io/sections/Oasis-platform.html
"""

NAME = "oasis_platform"
