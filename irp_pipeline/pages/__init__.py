"""Pages: cycles, batches, jobs and results in a browser, to read and to link to.

They are served under ``/irp`` beside Dagster's UI, by its webserver and behind its door. Nothing here changes anything:
only GET and HEAD are answered, and each page reads in one transaction that is READ ONLY. A page has no scripts, loads
nothing from elsewhere, and shows at most so many rows that it takes no longer after years of use. No Dagster here.

``addresses``
    the addresses of the pages, for links from elsewhere too.
``cycles``, ``jobs``, ``figures``
    what is read for them: records, and the SQL that reads them by an index.
``next_action``
    what a person can do next about a cycle.
``curves``
    exceedance curves as a drawing.
``rendering``
    the templates ``*.html.jinja``.
``answers``
    the pages themselves: from a request to a response.
``application``
    the routes, the headers of each response, and errors as pages.
"""
