"""``python -m refqnn`` is ``refqnn``."""

import sys

from refqnn.cli import main

if __name__ == "__main__":
    sys.exit(main())
