"""Lengths of time as people read them."""


def duration_in_words(seconds: float) -> str:
    """Return a length of time in the units that matter, such as ``0.4 s``, ``12 s``, ``2 min 05 s``, ``1 h 03 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_left:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
