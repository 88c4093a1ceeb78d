"""``python -m exporter``, and what the installed command runs."""

from typing import NoReturn

from exporter.process import run


def _command() -> int:
    from exporter.cli import main  # imported here: it may already lack memory or open files

    return main()


def entry() -> NoReturn:
    run(_command)


if __name__ == "__main__":
    entry()
