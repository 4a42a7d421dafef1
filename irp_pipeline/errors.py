"""The base class of every error this project raises on purpose.

Each module defines its own subclass of :class:`IrpError`, next to the code that raises it. A caller that
only needs to distinguish a user's mistake from a defect catches this class.
"""


class IrpError(Exception):
    """An error that a person can act on: the message says what was wrong, where, and what to do."""
