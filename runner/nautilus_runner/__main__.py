"""`python -m nautilus_runner …`: the service (`run`) without the weight of the command-line library."""

import sys


def main() -> None:
    if sys.argv[1:2] == ["run"] and "--help" not in sys.argv:
        from nautilus_runner import service

        service.main()
    else:
        from nautilus_runner import cli

        cli.main()


if __name__ == "__main__":
    main()
