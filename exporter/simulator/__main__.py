"""``python -m exporter.simulator``: the simulated cloud as a process of its own.

Prints its address on the first line of standard output. SIGTERM and SIGINT end it.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import msgspec

from .api import build_app
from .arrivals import WorldOptions
from .control import describe_truth
from .faults import Fault
from .incidents import DEMO_SCRIPT, INCIDENTS, Entry, Script
from .playback import Recording, build_playback, read_recording
from .server import SimulatorProtocol, serve_simulator
from .simulation import PROJECT_ID, Options, Simulation, new_simulation


class _OneLineParser(argparse.ArgumentParser):
    """What is wrong is one line, without all flags before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; {self.prog} --help shows the flags\n")


def parser(prog: str = "python -m exporter.simulator") -> argparse.ArgumentParser:
    """The flags."""
    flags = _OneLineParser(
        prog,
        description="A simulated MetaStudio.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  metastudio-tts-exporter simulate --port 8080 --rate 120 --history 3600
  metastudio-tts-exporter simulate --port 8080 --incident stuck_queue --incident-seconds 600
  metastudio-tts-exporter simulate --from answers.jsonl
""",
    )
    flags.add_argument(
        "--port", type=_within(int, 0, 65535), default=0, help="loopback port; 0 takes a free one"
    )
    flags.add_argument("--seed", default="0", help="same seed, same jobs")
    flags.add_argument(
        "--rate", type=_within(float, 0, 900_000), default=60.0, help="jobs per minute, the day's average"
    )
    flags.add_argument(
        "--history",
        type=_within(float, 0, 1e7),
        default=7200.0,
        help="seconds of jobs that exist at the start",
    )
    flags.add_argument(
        "--time-scale", type=_within(float, 0.001, 1e5), default=1.0, help="how much faster its clock runs"
    )
    flags.add_argument(
        "--epoch", type=_within(float, 0, 4e9), help="its time at the start, seconds since 1970; default: now"
    )
    flags.add_argument("--project", action="append", help="project id, repeatable")
    flags.add_argument(
        "--incident", action="append", default=[], choices=sorted(INCIDENTS), help="from the start"
    )
    flags.add_argument("--incident-seconds", type=float, default=1e9, help="how long --incident lasts")
    flags.add_argument("--script", choices=("none", "demo"), default="none", help="incidents in turn")
    flags.add_argument(
        "--options", type=_json(Options), default=Options(), metavar="JSON", help="API options"
    )
    flags.add_argument(
        "--world", type=_json(WorldOptions), default=WorldOptions(), metavar="JSON", help="job options"
    )
    flags.add_argument("--faults", type=_json(list[Fault]), default=[], metavar="JSON", help="list of faults")
    flags.add_argument(
        "--from",
        dest="recording",
        type=_recording,
        metavar="FILE",
        help="play back what doctor --save wrote; all other flags but --port are of no effect",
    )
    flags.add_argument("--no-auth", action="store_true", help="let every request in")
    flags.add_argument("--truth-file", type=_new_file, help="write the truth there at the end, as JSON")
    return flags


def _recording(text: str) -> Recording:
    try:
        return read_recording(Path(text))
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text}: {_reason(error)}") from None
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from None


def _new_file(text: str) -> Path:
    if Path(text).is_dir() or not Path(text).parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: no file can be written there")
    return Path(text)


def _json(kind: type) -> Callable[[str], object]:
    def convert(text: str) -> object:
        try:
            return msgspec.json.decode(text.encode(), type=kind)
        except msgspec.MsgspecError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def _within(kind: type[int] | type[float], least: float, most: float) -> Callable[[str], float]:
    def convert(text: str) -> float:
        number = kind(text)
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{text} is not from {least:g} to {most:g}")
        return number

    return convert


def build(arguments: argparse.Namespace) -> Simulation:
    """The simulation that the flags ask for."""
    script = DEMO_SCRIPT if arguments.script == "demo" else None
    if arguments.incident:
        script = Script(tuple(Entry(0.0, arguments.incident_seconds, name) for name in arguments.incident))
    made = new_simulation(
        seed=arguments.seed,
        rate=arguments.rate,
        history=arguments.history,
        projects=tuple(arguments.project or (PROJECT_ID,)),
        options=arguments.options,
        world_options=arguments.world,
        script=script,
        time_scale=arguments.time_scale,
        epoch=arguments.epoch,
    )
    made.auth.required = not arguments.no_auth
    now = made.now()
    for fault in arguments.faults:
        made.faults.add(fault, now)
    return made


async def serve_until_signal(arguments: argparse.Namespace, protocol: type[SimulatorProtocol]) -> None:
    """Serve until a signal comes."""
    made = None if arguments.recording is not None else build(arguments)
    app = build_playback(arguments.recording, time.time) if made is None else build_app(made)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with serve_simulator(app, port=arguments.port, protocol=protocol) as address:
        print(address, flush=True)
        await ended.wait()
    if arguments.truth_file is not None and made is not None:
        now = made.now()
        described = {project_id: describe_truth(truth, now) for project_id, truth in made.truths.items()}
        arguments.truth_file.write_bytes(msgspec.json.encode(described))


def _reason(error: OSError) -> str:
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "too many open files: raise the limit of this process (ulimit -n)"
    return error.strerror or str(error)


def main(
    argv: Sequence[str] | None = None,
    *,
    prog: str = "python -m exporter.simulator",
    protocol: type[SimulatorProtocol] = SimulatorProtocol,
) -> int:
    """The program. Returns its exit code."""
    arguments = parser(prog).parse_args(argv)
    try:
        asyncio.run(serve_until_signal(arguments, protocol))
    except OSError as error:
        print(f"cannot run the simulator: {_reason(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
