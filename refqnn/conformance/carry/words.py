"""Text of foreign code on one printable line: errors, and what it printed last."""

import os

from refqnn.files import printable

#: characters of a foreign message that are shown
MOST = 300


def one_line(error: BaseException) -> str:
    """Return the kind and the message of an error, on one line, shortened.

    >>> one_line(ValueError("a  b"))
    'ValueError: a b'
    """
    try:
        message = printable(" ".join(str(error).split()))
    except Exception:  # noqa: BLE001 - foreign exceptions may not even print
        message = "of no message"
    return f"{type(error).__name__}: {message[:MOST]}"


def last_line(descriptor: int) -> str:
    """Return the last line of a file, shortened."""
    size = os.fstat(descriptor).st_size
    content = os.pread(descriptor, 4096, max(size - 4096, 0))
    lines = content.decode("utf-8", "replace").strip().splitlines()
    return printable(lines[-1])[:MOST] if lines else ""
