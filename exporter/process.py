"""The process around a command: standard streams, exit codes, and an end that waits for no thread.

Knows what the system may refuse a process; must not know any command.
"""

from __future__ import annotations

import errno
import io
import os
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Final, NoReturn, TextIO

INTERRUPTED: Final = 130
"""Exit code after Ctrl-C, as of a shell; serving ends with 0."""
_NO_MEMORY: Final = "not enough memory: raise the limit of this process or of its container"
_CLOSED: Final = -1
"""Instead of a file descriptor: the program was started without this stream, or its reader has gone."""


def run_command(command: Callable[[], int]) -> NoReturn:
    """Runs a command, and ends the process with its exit code.

    A reader that stops reading our output changes nothing: ``check | head -1`` fails when the configuration
    is wrong, and only then. Output that cannot be written (a full disk) is an error: exit code 1.
    """
    out, err = _Output(sys.stdout), _Output(sys.stderr)
    sys.stdout, sys.stderr = out.text, err.text
    _ignore_key_log()
    try:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        code = command()
    except SystemExit as end:  # argparse: --help, --version, wrong flags
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        code = INTERRUPTED  # before a command had begun; those that have begun say what it means
    except Exception as error:
        missing = exhausted(error) or (_NO_MEMORY if _broke_an_import(error) else None)
        if missing is None:
            raise
        print(f"metastudio-tts-exporter: {missing}", file=sys.stderr)
        code = 1
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # from here on it ends the process without a traceback
    out.text.flush()
    if out.error is not None:
        print(f"metastudio-tts-exporter: cannot write the output: {reason(out.error)}", file=sys.stderr)
        code = code or 1
    err.text.flush()
    if threading.active_count() > 1:
        # Nobody needs what threads still do (a lookup, a commit, a hash). Python would wait for some of them,
        # and stop others in the middle.
        os._exit(code)
    sys.exit(code)


def _ignore_key_log() -> None:
    """Python would write the keys of every TLS connection to that file, and fail where it cannot."""
    if os.environ.pop("SSLKEYLOGFILE", ""):
        print(
            "metastudio-tts-exporter: the environment variable SSLKEYLOGFILE is ignored: who reads that file"
            " could read the credentials",
            file=sys.stderr,
        )


def exhausted(error: BaseException) -> str | None:
    """What has run out (memory, files, threads) and the remedy; ``None`` for errors of another kind."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(exhausted, error.exceptions)), None)
    number = error.errno if isinstance(error, OSError) else None
    library = (
        str(error).lower() if isinstance(error, ImportError) else ""
    )  # of a C library: it has no error number
    unmapped = "failed to map segment" in library or "cannot allocate memory" in library
    if isinstance(error, MemoryError) or number == errno.ENOMEM or unmapped:
        return _NO_MEMORY
    if number in (errno.EMFILE, errno.ENFILE) or "too many open files" in library:
        return "too many open files: raise the limit of this process (ulimit -n, LimitNOFILE=)"
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return "no thread can be started: raise the limit of processes (ulimit -u, TasksMax=) or of memory"
    return None


def _broke_an_import(error: Exception) -> bool:
    """Whether a module could not be imported under a limit of memory.

    Python that runs out of memory then does not always say so: it may raise a SystemError, or a SyntaxError
    for a module that has none. An encoding that it cannot import, it takes for unknown.
    """
    limits = (resource.getrlimit(limit)[0] for limit in (resource.RLIMIT_AS, resource.RLIMIT_DATA))
    if all(limit == resource.RLIM_INFINITY for limit in limits):
        return False
    frames = traceback.walk_tb(error.__traceback__)
    unknown = isinstance(error, LookupError) and str(error).startswith("unknown encoding")
    return (
        unknown
        or isinstance(error, (SystemError, SyntaxError, ImportError))
        or any(frame.f_code.co_name == "<module>" for frame, _ in frames)
    )


def reason(error: OSError) -> str:
    """Why the system refused: what has run out and the remedy, or the system's own words."""
    return exhausted(error) or error.strerror or type(error).__name__


class _Output(io.RawIOBase):
    """A standard stream that takes everything, and keeps the first error for the end."""

    def __init__(self, stream: TextIO | None) -> None:
        """``stream`` is ``None`` when the process has none."""
        super().__init__()
        self._descriptor = _CLOSED if stream is None else stream.fileno()
        self.error: OSError | None = None
        self.text = io.TextIOWrapper(
            io.BufferedWriter(self),
            encoding="utf-8" if stream is None else stream.encoding,
            errors="backslashreplace",  # what the locale cannot show
            line_buffering=stream is sys.stderr or getattr(stream, "write_through", False) or self.isatty(),
        )

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        if self._descriptor == _CLOSED:
            raise io.UnsupportedOperation("fileno")
        return self._descriptor

    def isatty(self) -> bool:
        return self._descriptor != _CLOSED and os.isatty(self._descriptor)

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type]  # any buffer
        if self._descriptor == _CLOSED or self.error is not None:
            return view.nbytes
        try:
            return os.write(self._descriptor, view)
        except BrokenPipeError:
            self._descriptor = _CLOSED  # nobody reads it any more
        except OSError as error:
            self.error = error
        return view.nbytes


def give_memory_back() -> None:
    """Have the C library return what it does not use. glibc does not by itself; others are not asked."""
    try:
        import ctypes  # not at the top: few exporters ever hold so much

        malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    except (ImportError, OSError):
        return
    if malloc_trim is not None:
        malloc_trim(0)
