"""Where the database and the files are: the only place that reads the configuration.

Here: every environment variable of this project that is not about schemas, with its default and its errors. Not here:
connecting (:mod:`irp_pipeline.helpers.database`), and the embedded server itself (:mod:`irp_pipeline.embedded`).

The environment is read when a setting is needed, never at import, and never from a file. An empty variable counts as
unset. The settings:

=========================  ===========================================================================================
``IRP_HOME``               the folder of cycles and of the embedded server; default: the nearest ``.irp`` in the
                           working folder or above, else a new one in the working folder
``IRP_FILES_URL``          where the files of cycles are: ``file:///mnt/share/irp``, ``s3://bucket/irp``,
                           ``abfs://container/irp`` or ``gs://bucket/irp``, without credentials (``IRP_HOME/cycles``)
``IRP_DATABASE_URL``       ``postgresql://user:password@host:5432/database``, with any parameters of libpq after ``?``
``DB_SERVER``              host, or folder of the socket; needs ``DB_NAME`` too
``DB_PORT``                port of that server (5432)
``DB_NAME``                name of the database
``DB_USER``                role in the database (the user of the operating system, as for psql)
``DB_PASSWORD``            password of that role (none)
``IRP_CONNECT_TIMEOUT``    how long to wait for a connection, in seconds (10)
``IRP_POOL_SIZE``          how many connections a process keeps open (5)
``IRP_EXTENSIONS_SCHEMA``  a second schema in the search path, for PostgreSQL extensions (none)
``IRP_SOURCE_<NAME>_URL``  address of a database that holds portfolios, as a SQLAlchemy URL (none)
``IRP_DAGSTER_DATABASE_URL``
                           the database of Dagster's own records, like ``IRP_DATABASE_URL``; default: on the same
                           server as the pipeline's database, with the same name followed by ``_dagster``
``IRP_EXECUTOR``           where the steps of a run are executed: ``in_process`` (default), ``multiprocess``,
                           ``celery`` (extra ``celery``) or ``k8s`` (extra ``k8s``)
``IRP_CELERY_BROKER``      the broker between runs and workers of Celery, RabbitMQ as
                           ``amqp://user:password@host:5672/vhost`` or Redis as ``redis://:password@host:6379/0`` (none)
``IRP_CELERY_QUEUE``       the queue at that broker; installations that share a broker need one each (``irp``)
``IRP_JOB_SLOTS``          how many jobs this machine runs at once (the number of processors); 0: no worker here
``IRP_JOB_HOURS``          how many hours a job may run (24)
``IRP_JOB_DISK_GB``        how many gigabytes the folder of a job may hold (50)
``IRP_JOB_MEMORY_GB``      how many gigabytes of memory its processes may use together (no limit)
``IRP_JOB_PROCESSES``      how many processes a job may use; the last digits of figures depend on it (what is free)
``IRP_JOB_ENV``            names of variables that jobs get besides the usual ones, separated by commas (none)
``NUMBA_CACHE_DIR``        where Oasis LMF keeps its compiled code (a folder for each Python environment in
                           ``~/.cache/irp-pipeline/compiled``)
``IRP_OASIS_PLATFORM_URL``
                           the address of the API of an Oasis Platform, such as ``https://oasis.example.com/api`` (none)
``IRP_OASIS_PLATFORM_USER``
                           the user at the Oasis Platform (none)
``IRP_OASIS_PLATFORM_PASSWORD``
                           the password of that user (none)
``IRP_OASIS_PLATFORM_CLIENT_ID``
                           in place of a user: the id of a client that an OpenID provider knows (none)
``IRP_OASIS_PLATFORM_CLIENT_SECRET``
                           the secret of that client (none)
``IRP_OASIS_PLATFORM_TOKEN_URL``
                           where the provider gives tokens to that client; default: the Platform asks for one
``IRP_UI_HOSTS``           host names that ``irp ui`` answers to besides ``localhost``, such as those of a proxy in
                           front of it, separated by commas (none)
``IRP_UI_URL``             the address of the UI, such as ``https://irp.example.com``, for links in messages and assets
                           (none in messages; assets link to the UI that shows them)
``IRP_MESSAGES``           who is told that a run failed or finished, or that a job is stuck: URLs of apprise such as
                           ``failed,stuck=mailto://…``, between blanks, or the path of a configuration file of apprise
                           (nobody; extra ``messages``)
``IRP_TIME_ZONE``          the time zone of schedules, such as ``Europe/London`` (``UTC``)
=========================  ===========================================================================================

``IRP_DATABASE_URL`` overrides the ``DB_*`` variables; without either, the embedded server is used.

All of it is imported from here. ``variables`` reads the environment, ``folders`` and ``database`` say where the files
and the database are, ``platform`` how to reach an Oasis Platform, ``checking`` finds what is wrong with the variables
that are set.
"""

from irp_pipeline.settings.checking import problems
from irp_pipeline.settings.database import (
    DRIVER,
    DatabaseDescription,
    dagster_database_url,
    database_source,
    database_url,
    describe_database,
    user_of_system,
)
from irp_pipeline.settings.folders import (
    cycle_dir,
    cycles_dir,
    cycles_root,
    irp_home,
    make_irp_home,
    models_folder,
    notebooks_folder,
)
from irp_pipeline.settings.platform import PlatformAccess, oasis_platform
from irp_pipeline.settings.variables import (
    Executor,
    SettingsError,
    celery_broker,
    celery_queue,
    connect_timeout_seconds,
    executor,
    extensions_schema,
    files_url,
    job_disk_bytes,
    job_environment_names,
    job_memory_bytes,
    job_processes,
    job_seconds,
    job_slots,
    messages,
    pool_size,
    time_zone,
    ui_hosts,
    ui_url,
)

__all__ = [
    "DRIVER",
    "DatabaseDescription",
    "Executor",
    "PlatformAccess",
    "SettingsError",
    "celery_broker",
    "celery_queue",
    "connect_timeout_seconds",
    "cycle_dir",
    "cycles_dir",
    "cycles_root",
    "dagster_database_url",
    "database_source",
    "database_url",
    "describe_database",
    "executor",
    "extensions_schema",
    "files_url",
    "irp_home",
    "job_disk_bytes",
    "job_environment_names",
    "job_memory_bytes",
    "job_processes",
    "job_seconds",
    "job_slots",
    "make_irp_home",
    "messages",
    "models_folder",
    "notebooks_folder",
    "oasis_platform",
    "pool_size",
    "problems",
    "time_zone",
    "ui_hosts",
    "ui_url",
    "user_of_system",
]
