"""The root of every error this project raises on purpose.

Each module defines its own class below :class:`IrpError`, next to the code that raises it. Callers that
only want to tell a user's mistake from a defect catch this one.
"""


class IrpError(Exception):
    """Something a person can act on: the message says what was wrong, where, and what to do."""
