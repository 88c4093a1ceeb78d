"""``python -m exporter``, and what the installed command runs."""

from typing import NoReturn

from exporter.cli import main
from exporter.process import run


def entry() -> NoReturn:
    run(main)


if __name__ == "__main__":
    entry()
