"""A network that can break: passes bytes on to a port, cuts connections, swallows or holds what is sent."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


class TcpProxy:
    """Listens on ``port`` of the loopback."""

    def __init__(self, target: int, sent: Callable[[bytes], None] = lambda data: None) -> None:
        """``sent`` gets whatever clients send, as it arrives."""
        self._target = target
        self._sent = sent
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.accepted = 0
        """Connections so far."""
        self.received = 0
        """Bytes from the port so far."""
        self.swallows = False
        """A black hole: whatever is sent is acknowledged, and never arrives."""
        self._on_time = threading.Event()
        self._on_time.set()
        self._open: set[socket.socket] = set()
        self._closed = False

    def hold(self) -> None:
        """Whatever is sent arrives when ``deliver`` is called, although its sender may have given up."""
        self._on_time.clear()

    def deliver(self) -> None:
        self._on_time.set()

    def cut(self) -> None:
        """Every connection ends now."""
        for end in tuple(self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._closed = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self.deliver()

    def serve(self) -> None:
        while not self._closed:
            with suppress(OSError):
                client, _ = self._listener.accept()
                self.accepted += 1
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(("127.0.0.1", self._target)) as server:
            ends = {client: server, server: client}
            self._open |= ends.keys()
            try:
                while True:
                    for end in select.select(list(ends), [], [])[0]:
                        data = end.recv(65536)
                        if not data:
                            return
                        if end is server:
                            self.received += len(data)
                        else:
                            self._sent(data)
                            self._on_time.wait()
                        if not self.swallows:
                            ends[end].sendall(data)
            finally:
                self._open -= ends.keys()


@contextmanager
def tcp_proxy(target: int, sent: Callable[[bytes], None] = lambda data: None) -> Iterator[TcpProxy]:
    proxy = TcpProxy(target, sent)
    thread = threading.Thread(target=proxy.serve, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.close()
        thread.join(5)
