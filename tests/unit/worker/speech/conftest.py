"""What the tests of the model share."""

from tests.support.logged import events

__all__ = ["events"]
