"""Text of foreign code on one printable line: errors, and what it printed last."""

import os

#: characters of a foreign message that are shown
MOST = 300


def printable(text: str) -> str:
    r"""Return text with control characters escaped: none reaches the terminal.

    >>> printable("red \x1b[31m")
    'red \\x1b[31m'
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


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
