"""What the tests of the worker share."""

from tests.support.events import events

__all__ = ["events"]
