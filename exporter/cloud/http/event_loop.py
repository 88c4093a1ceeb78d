"""asyncio's event loop, but host names are looked up in threads of their own, one lookup a name at a time.

asyncio itself looks names up in the few threads that it has for everything, and waits for them when it ends.
A name server that never answers keeps each of them busy for twenty seconds: other names, a reload and the end
of the program would wait for it.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
import socket
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from exporter.background import SingleFlight

LOOKUP_SECONDS: Final = 6.0
"""How long a caller waits: less than a connection may take, so that the error is about the name. The lookup
itself goes on, and the next caller gets its result."""

_T = TypeVar("_T")


def run_event_loop(main: Coroutine[Any, Any, _T]) -> _T:
    """``asyncio.run`` on this module's event loop. Raises OSError where it may not open enough files."""
    try:
        # Tried first: of a loop that is half made, Python would print that it cannot be closed.
        with selectors.DefaultSelector():
            for end in socket.socketpair():
                end.close()
    except OSError:
        main.close()
        raise
    with asyncio.Runner(loop_factory=EventLoop) as runner:
        return runner.run(main)


class EventLoop(asyncio.SelectorEventLoop):
    """asyncio's usual event loop, with lookups of its own."""

    def __init__(self, look_up: Callable[..., Any] | None = None, *, seconds: float = LOOKUP_SECONDS) -> None:
        super().__init__()
        self._look_up = look_up or socket.getaddrinfo
        self._seconds = seconds
        self._lookups: dict[tuple[Any, ...], SingleFlight[Any]] = {}

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:  # noqa: ANN401 - as asyncio's
        """As ``socket.getaddrinfo``; that no answer comes is an error of the lookup, too."""
        question = (host, port, *sorted(options.items()))
        lookup = self._lookups.setdefault(question, SingleFlight("lookup"))
        try:
            return await lookup.run(
                functools.partial(self._look_up, host, port, **options), seconds=self._seconds
            )
        except TimeoutError:
            raise socket.gaierror(socket.EAI_AGAIN, "no answer in time: name resolution failed") from None
