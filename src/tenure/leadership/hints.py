"""SKELETON: what only the steward can say in views."""


class Hints:
    """Lazy: reads the steward it came from; use it at once."""
