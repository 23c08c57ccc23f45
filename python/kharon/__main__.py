"""The `kharon` command."""

import signal
import sys

from kharon import _kharon


def main() -> None:
    # The command looks after signals itself.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(_kharon.command(["kharon", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
