"""Messages to people, in chats, by mail and elsewhere, through apprise (extra ``messages``).

``message``, ``services``
    what a message is; who gets which, from ``IRP_MESSAGES``.
``recording``, ``sending``
    recording messages before they are sent; sending those that are due.
``conditions``
    what deserves a message although no run tells it: stuck jobs, and batches that ended badly.

Apprise is imported only if ``IRP_MESSAGES`` is set.
"""

from irp_pipeline.helpers.messages.conditions import (
    BadEnd,
    StuckJob,
    WaitingBatch,
    batches_ended_badly,
    stuck_jobs,
    waiting_batches,
)
from irp_pipeline.helpers.messages.message import Event, Message
from irp_pipeline.helpers.messages.recording import record_message, recorded_keys
from irp_pipeline.helpers.messages.sending import Outcome, send_due
from irp_pipeline.helpers.messages.services import MessagesError, Service, Services, find_services

__all__ = [
    "BadEnd",
    "Event",
    "Message",
    "MessagesError",
    "Outcome",
    "Service",
    "Services",
    "StuckJob",
    "WaitingBatch",
    "batches_ended_badly",
    "find_services",
    "record_message",
    "recorded_keys",
    "send_due",
    "stuck_jobs",
    "waiting_batches",
]
