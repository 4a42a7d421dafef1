"""What can go wrong between this machine and an Oasis Platform."""

from irp_pipeline.engines.protocol import EngineError


class PlatformError(EngineError):
    """The Platform does not do what it was asked to; the message says where, what, and what to do."""


class AwayError(PlatformError):
    """The Platform cannot be reached, is overloaded, fails, or does not let us in: try again later."""


class NotThereError(PlatformError):
    """The Platform has no such thing (404)."""
