"""``python -m exporter``, which is also what the command ``metastudio-tts-exporter`` runs."""

import signal


def _main() -> int:
    from exporter.cli import main  # not at the top: memory or open files may run out here already

    return main()


def entry() -> None:
    # Until run_command can say more than a traceback does: so nothing else is imported before.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from exporter.process import run_command

    run_command(_main)


if __name__ == "__main__":
    entry()
