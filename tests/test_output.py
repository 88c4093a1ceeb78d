"""Standard output and error as they are: other encodings, closed, full, or with nobody who reads."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from testkit.processes import ROOT, bare_environ

pytestmark = pytest.mark.e2e

NOT_A_TERMINAL = bare_environ()
BAD = "check --config.file tests/config/bad/many_at_once.yaml"
GOOD = "check --config.file exporter.yaml"


def shell(arguments: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
    """The real program, its redirections included."""
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {sys.executable} -m exporter {arguments}"],
        cwd=ROOT,
        env={**NOT_A_TERMINAL, **environ},
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (BAD, 1),
        (GOOD, 0),
        ("--help", 0),
        ("--version", 0),
        ("simulate --help", 0),
        ("healthcheck --url http://127.0.0.1:1", 1),
        ("--nonsense", 2),
    ],
)
@pytest.mark.parametrize("streams", ["2>&1 | true", "<&- >&- 2>&-", "2> /dev/full"], ids=str)
def test_output_that_nobody_wants_changes_no_exit_code(arguments: str, code: int, streams: str) -> None:
    """Nor is there a traceback, or a complaint of the interpreter."""
    ended = shell(f"{arguments} {streams}")
    assert ended.returncode == code
    assert b"Traceback" not in ended.stderr
    assert b"Exception" not in ended.stderr


@pytest.mark.parametrize("arguments", [GOOD, "--help", "--version"])
def test_output_that_cannot_be_written_is_an_error(arguments: str) -> None:
    """A script that reads an empty file afterwards must not take it for a result."""
    ended = shell(f"{arguments} > /dev/full")
    assert ended.returncode == 1
    assert ended.stderr == b"metastudio-tts-exporter: cannot write the output: No space left on device\n"


@pytest.mark.parametrize(
    ("environ", "shown"),
    [
        ({"PYTHONIOENCODING": "utf-8"}, "名é".encode()),
        ({"PYTHONIOENCODING": "latin-1"}, rb"\u540d" + "é".encode("latin-1")),
        ({"PYTHONIOENCODING": "gbk"}, "名é".encode("gbk")),
        ({"PYTHONIOENCODING": "ascii:strict"}, rb"\u540d\xe9"),
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, rb"\udce5\udc90\udc8d\udcc3\udca9"),
    ],
    ids=["utf-8", "latin-1", "gbk", "ascii", "c-locale"],
)
@pytest.mark.parametrize("command", ["check ", ""], ids=["check", "serve"])
def test_what_a_locale_cannot_show_is_escaped(
    environ: dict[str, str], shown: bytes, command: str, tmp_path: Path
) -> None:
    """The line says what is wrong all the same."""
    folder = tmp_path / "名é"
    folder.mkdir()
    (folder / "exporter.yaml").write_text("poll: 1\ntargets: [{name: a, region: r}]\n")
    ended = shell(f"{command}--config.file '{folder}/exporter.yaml'", **environ)
    assert ended.returncode == 1
    said = ended.stdout if command else ended.stderr
    assert shown in said
    assert b"poll: must be a mapping of keys to values, not a number" in said


def test_a_demo_without_a_place_for_its_store_says_so() -> None:
    """As on a file system that is read-only."""
    code = (
        "import sys, tempfile\n"
        "def none(*_, **__): raise FileNotFoundError(2, 'No usable temporary directory found')\n"
        "tempfile.mkdtemp = none\n"
        "from exporter.__main__ import entry\n"
        "sys.argv = ['x', 'demo', '--web.listen-address=127.0.0.1:0']\n"
        "entry()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], env=NOT_A_TERMINAL, capture_output=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr == (
        b"metastudio-tts-exporter: demo needs a folder for its store: set TMPDIR to one that can be written"
        b" to (No usable temporary directory found)\n"
    )


def test_ctrl_c_while_modules_are_loaded_is_no_traceback() -> None:
    """Before any command has begun."""
    code = (
        "import signal, sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'argparse': signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from exporter.__main__ import entry\n"
        "sys.argv = ['x', 'doctor']\n"
        "entry()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], env=NOT_A_TERMINAL, capture_output=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, b"", b"")


def test_the_end_waits_for_no_thread() -> None:
    """Neither for one that Python would join, nor does one that is not Python's own abort the end."""
    code = (
        "import sys, threading, time\n"
        "from exporter.process import run_command\n"
        "def command():\n"
        "    threading.Thread(target=time.sleep, args=(50,)).start()\n"
        "    print('done')\n"
        "    return 3\n"
        "run_command(command)\n"
    )
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", code], env=NOT_A_TERMINAL, capture_output=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout) == (3, b"done\n")
    assert time.monotonic() - began < 40


@pytest.mark.parametrize(
    ("program", "code"),
    [("run_command(interrupt)", 130), ("atexit.register(interrupt); run_command(lambda: 0)", -signal.SIGINT)],
    ids=["before", "after"],
)
def test_ctrl_c_is_no_error_of_the_program(program: str, code: int) -> None:
    """Also before a command has begun, while code is loaded, and after its end. A shell makes 130 of both."""
    imports = "import atexit, os, signal; from exporter.process import run_command"
    interrupt = "interrupt = lambda: os.kill(os.getpid(), signal.SIGINT)"
    ended = subprocess.run(
        [sys.executable, "-c", f"{imports}; {interrupt}; {program}"],
        env=NOT_A_TERMINAL,
        capture_output=True,
        # A shell lets what it starts in the background ignore the signal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, b"", b"")


def test_ctrl_c_while_the_program_is_loaded_leaves_no_traceback() -> None:
    """Nothing is there yet that could say more than a traceback: the signal ends it, as a shell expects."""
    code = (
        "import os, signal, sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'exporter.process': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from exporter.__main__ import entry\n"
        "entry()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=NOT_A_TERMINAL,
        capture_output=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, b"", b"")
