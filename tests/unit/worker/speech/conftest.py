"""What the tests of the model share."""

from tests.support.events import events

__all__ = ["events"]
