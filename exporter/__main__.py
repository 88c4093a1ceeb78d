"""``python -m exporter``, which is also what the command ``metastudio-tts-exporter`` runs."""

from typing import NoReturn

from exporter.process import run_command


def _main() -> int:
    from exporter.cli import main  # not at the top: memory or open files may run out here already

    return main()


def entry() -> NoReturn:
    run_command(_main)


if __name__ == "__main__":
    entry()
