"""The command `bitloom`, also as `python -m bitloom`."""

import sys


def main() -> None:
    """Runs the command line; an interruption while its libraries are loaded, which takes seconds, is one line too."""
    try:
        from bitloom.cli import app
    except KeyboardInterrupt:
        print("bitloom: interrupted before anything was done", file=sys.stderr)
        raise SystemExit(130) from None
    app()


if __name__ == "__main__":
    main()
