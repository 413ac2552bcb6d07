"""`python -m dino_st`, and the console script: the command line, which Ctrl-C ends without a traceback."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line; what it imports takes a moment, in which it may be interrupted, too."""
    try:
        from dino_st.cli.main import main as command_line

        command_line()
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
