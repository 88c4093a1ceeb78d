"""Flags, commands, exit codes; nothing else.

Exit codes: 0 after a clean end, 1 with one line on standard error that says what is wrong and what to do,
2 for wrong flags.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import platform
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn, cast

from exporter import __version__, log
from exporter.commands import arguments
from exporter.config import Config, inline_secrets, load_config
from exporter.errors import ExporterError
from exporter.log import drain
from exporter.process import INTERRUPTED

logger = logging.getLogger(__name__)

DEFAULT_LISTEN: Final = ":10047"
DRAIN_SECONDS: Final = 1.0
"""How long the end waits for standard error to take the last log lines."""
MAX_REQUESTS: Final = 40
"""As in node_exporter."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The program. Returns the exit code."""
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what could come next
        _complete()
    parser = _parser()
    flags, rest = parser.parse_known_args(arguments)
    if flags.run is _simulate:
        flags.rest = rest  # they are the simulator's own flags
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    flags.redactor = log.Redactor()
    with log.redacted_output(flags.redactor):
        return _run_command(flags)


def _run_command(flags: argparse.Namespace) -> int:
    command: Callable[[argparse.Namespace], int] = flags.run
    try:
        return command(flags)
    except ExporterError as error:
        drain(DRAIN_SECONDS)
        for line in str(error).splitlines():  # a configuration may have several problems
            print(f"metastudio-tts-exporter: {line}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0 if command in (serve, _demo, _simulate) else INTERRUPTED
    finally:
        drain(DRAIN_SECONDS)


class _Parser(argparse.ArgumentParser):
    """No abbreviated flags, in commands neither: they would break with the next flag that begins alike.

    A flag has no default of its own: a command's would replace what stands before the command.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - whatever argparse takes
        super().__init__(**{"allow_abbrev": False, "argument_default": argparse.SUPPRESS, **options})

    def error(self, message: str) -> NoReturn:
        """One line, as of every other problem."""
        self.exit(2, f"{self.prog}: error: {message}; {self.prog} --help shows the flags\n")


def _complete() -> None:
    """Answer the shell, and end."""
    import argcomplete

    from exporter.simulator.__main__ import parser as simulator_parser

    argcomplete.autocomplete(_parser(simulator_parser()))


def _parser(*simulator: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """``simulator``: the parser of its flags, for completion; otherwise ``simulate`` reads them by itself."""
    parser = _Parser(
        prog="metastudio-tts-exporter",
        description="Prometheus exporter for the text-to-speech jobs of Huawei Cloud MetaStudio.",
    )
    version = f"metastudio-tts-exporter {__version__} (Python {platform.python_version()})"
    parser.add_argument("--version", action="version", version=version)
    _add_serve_flags(parser)
    parser.set_defaults(
        run=serve,
        config_file=arguments.DEFAULT_CONFIG,
        listen_addresses=None,
        telemetry_path="/metrics",
        log_level="info",
        log_format="logfmt",
        web_config_file=None,
        max_requests=MAX_REQUESTS,
        lifecycle=False,
        shard=(0, 1),
        estimate=False,
        url=None,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    serving = commands.add_parser(
        "serve", help="poll the configured targets and serve /metrics (the default)"
    )
    _add_serve_flags(serving)
    serving.set_defaults(run=serve)
    demo = commands.add_parser("demo", help="the exporter on a bundled MetaStudio simulator, in one process")
    _add_web_flags(demo)
    arguments.add_demo_flags(demo)
    demo.set_defaults(run=_demo)
    check = commands.add_parser("check", help="print every problem of the configuration")
    _add_serve_flags(check)  # what it will be started with
    check.add_argument(
        "--estimate", action="store_true", help="also the requests a minute, series and samples it will cost"
    )
    check.set_defaults(run=_check)
    doctor = commands.add_parser("doctor", help="ask the real API what it is like, and propose configuration")
    _add_config_flag(doctor)
    arguments.add_doctor_flags(doctor)
    doctor.set_defaults(run=_doctor)
    arguments.add_commands(commands, _add_config_flag)
    healthcheck = commands.add_parser("healthcheck", help="exit 0 if the exporter on this machine answers")
    _add_listen_flag(healthcheck)
    healthcheck.add_argument("--url", metavar="URL", help="ask there instead; the path may be left out")
    healthcheck.set_defaults(run=_healthcheck)
    for described, examples in (
        (parser, arguments.SERVE_EXAMPLES),
        (serving, arguments.SERVE_EXAMPLES),
        (check, arguments.CHECK_EXAMPLES),
        (healthcheck, arguments.HEALTHCHECK_EXAMPLES),
    ):
        described.formatter_class = argparse.RawDescriptionHelpFormatter
        described.epilog = examples
    simulate = commands.add_parser(
        "simulate", help="only the simulator", add_help=False, parents=cast("tuple[_Parser, ...]", simulator)
    )
    simulate.set_defaults(run=_simulate)
    return parser


def _add_config_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config.file",
        dest="config_file",
        type=Path,
        metavar="FILE",
        help="configuration file (default: exporter.yaml)",
    )


def _add_listen_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--web.listen-address",
        dest="listen_addresses",
        action="append",
        metavar="ADDRESS",
        help=f"HOST:PORT to listen on, repeatable (default: {DEFAULT_LISTEN})",
    )


def _add_web_flags(parser: argparse.ArgumentParser) -> None:
    _add_listen_flag(parser)
    parser.add_argument(
        "--web.telemetry-path",
        dest="telemetry_path",
        metavar="PATH",
        help="path of the metrics (default: /metrics)",
    )
    parser.add_argument(
        "--log.level",
        dest="log_level",
        choices=("debug", "info", "warn", "error"),
        help="log messages of this level and above (default: info)",
    )
    parser.add_argument(
        "--log.format",
        dest="log_format",
        choices=("logfmt", "json"),
        help="format of log messages (default: logfmt)",
    )


def _add_web_config_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--web.config.file",
        dest="web_config_file",
        type=Path,
        metavar="FILE",
        help="TLS, passwords, response headers and rate limit, in exporter-toolkit's format (default: none)",
    )


def _add_serve_flags(parser: argparse.ArgumentParser) -> None:
    _add_config_flag(parser)
    _add_web_flags(parser)
    _add_web_config_flag(parser)
    parser.add_argument(
        "--web.max-requests",
        dest="max_requests",
        type=_count,
        metavar="N",
        help="scrapes at a time, the next one is answered 503; answers up to 32 KiB do not count; "
        f"0: any number (default: {MAX_REQUESTS})",
    )
    parser.add_argument(
        "--web.enable-lifecycle",
        dest="lifecycle",
        action="store_true",
        help="allow a reload by POST or PUT to /-/reload (SIGHUP always does)",
    )
    parser.add_argument(
        "--shard",
        type=_shard,
        metavar="I/N",
        help="poll only the targets that fall to part I of N, by a hash of their names; I counts from 0"
        " (default: 0/1, all)",
    )


def _count(text: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) < 10:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of requests, such as 40, or 0 for any number")


def _shard(text: str) -> tuple[int, int]:
    index, slash, count = text.partition("/")
    if slash and text.isascii() and index.isdecimal() and count.isdecimal() and int(index) < int(count):
        return int(index), int(count)
    raise argparse.ArgumentTypeError(f"{text!r} is not I/N with 0 <= I < N, such as 0/3")


def serve(flags: argparse.Namespace) -> int:
    """The exporter, until a signal ends it."""
    redactor = _log(flags)

    def read_config() -> Config:
        from exporter.config import of_shard

        config = load_config(
            flags.config_file,
            environ=os.environ,
            warn=lambda warning: log.warn(logger, "configuration", problem=warning),
        )
        for secret in inline_secrets(config):
            redactor.add(secret.reveal())
        return of_shard(config, *flags.shard)

    return _run(read_config(), read_config, flags, redactor)


def _run(
    config: Config, read_config: Callable[[], Config], flags: argparse.Namespace, redactor: log.Redactor
) -> int:
    from exporter.app import App
    from exporter.cloud import run_event_loop
    from exporter.web import WebConfigReloader

    async def life() -> None:
        app = App(
            config,
            listen_addresses=flags.listen_addresses or [DEFAULT_LISTEN],
            telemetry_path=flags.telemetry_path,
            environ=os.environ,
            read_config=read_config,
            lifecycle=flags.lifecycle,
            max_requests=flags.max_requests,
            web_config=WebConfigReloader(flags.web_config_file, on_secret=redactor.add),
            redactor=redactor,
        )
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, app.reloads.request)
        # Code and configuration live until the end: the search for garbage, which holds everything up, need
        # not look at them each time. Targets are not made yet, because a reload may end them.
        gc.freeze()
        await app.run(stop_event())

    # Until it has a handler, the signal for a reload must not end the program.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    run_event_loop(life())
    return 0


def _demo(flags: argparse.Namespace) -> int:
    from exporter.cloud import run_event_loop
    from exporter.commands.demo import demo

    redactor = _log(flags)
    addresses = flags.listen_addresses or [DEFAULT_LISTEN]
    run_event_loop(
        demo(
            stop_event,
            listen_addresses=addresses,
            telemetry_path=flags.telemetry_path,
            incidents=flags.incidents,
            redactor=redactor,
        )
    )
    return 0


def _check(flags: argparse.Namespace) -> int:
    from exporter.commands.check import check
    from exporter.commands.preflight import Flags

    return check(
        flags.config_file,
        web_config_path=flags.web_config_file,
        environ=os.environ,
        out=sys.stdout,
        redactor=flags.redactor,
        estimate=flags.estimate,
        flags=Flags(flags.listen_addresses or (), flags.telemetry_path, flags.shard),
    )


def _doctor(flags: argparse.Namespace) -> int:
    from exporter.commands.doctor.command import DoctorFlags, doctor

    if flags.region is not None and flags.targets:
        raise ExporterError("--region asks without a configuration: leave out --target")
    if flags.endpoint is not None and flags.region is None:
        raise ExporterError("--endpoint goes with --region; with a configuration, it says where to ask")
    return doctor(
        DoctorFlags(**{name: getattr(flags, name) for name in DoctorFlags._fields}),
        environ=os.environ,
        out=sys.stdout,
        err=sys.stderr,
        redactor=flags.redactor,
    )


def _healthcheck(flags: argparse.Namespace) -> int:
    from exporter.commands.healthcheck import healthcheck, of_listen_address, of_url

    listens = flags.listen_addresses or [DEFAULT_LISTEN]
    address = of_url(flags.url) if flags.url is not None else of_listen_address(listens[0])
    return healthcheck(address, out=sys.stdout)


def _simulate(flags: argparse.Namespace) -> int:
    from exporter.simulator.__main__ import main as simulate

    return simulate(flags.rest, prog="metastudio-tts-exporter simulate")


def _log(flags: argparse.Namespace) -> log.Redactor:
    """Set up logging. Secrets are added to the redactor as they become known."""
    redactor: log.Redactor = flags.redactor
    log.configure(flags.log_level, flags.log_format, sys.stderr, redactor=redactor)
    return redactor


def stop_event() -> asyncio.Event:
    """Set by SIGTERM or SIGINT. Call it in the running loop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
