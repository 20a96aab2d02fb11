"""Errors of the world, typed. Our own mistakes are `assert`s."""


class TenureError(Exception):
    """Base of every error that Tenure raises on purpose."""


class Invalid(TenureError):
    """Input that can't be taken: which field, and why."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason
