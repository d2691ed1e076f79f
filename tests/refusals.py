"""A call that is refused: the error says what is wrong."""

import pytest


def refuses(message, call, *args, **options):
    """Show that a call raises a ValueError whose message matches."""
    with pytest.raises(ValueError, match=message):
        call(*args, **options)
