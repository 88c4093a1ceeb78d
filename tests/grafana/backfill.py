"""A Prometheus with a past: it scrapes, at once, all that it should have scraped then.

The samples bear their times. So what it keeps is what this release makes of a scrape by itself: its ``le``
labels as it writes them, and native histograms where it is told to convert.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

from testkit.processes import free_port, get, wait_for
from tests.conftest import Tool
from tests.grafana.history import TimedScrape
from tests.prometheus.stack import program

EVERY: Final = "10s"
"""The first scrape comes at a random time within this; the others get nothing."""
PATIENCE: Final = 120.0


def exposition(scrape: TimedScrape, labels: str) -> Iterator[str]:
    """The lines of a scrape with a time, and with the labels that Prometheus would add."""
    for line in scrape.text.splitlines():
        if line.startswith("# TYPE"):
            yield f"{line}\n"
        elif not line.startswith("#"):
            series, _, value = line.rpartition(" ")
            name, brace, rest = series.partition("{")
            yield f"{name}{{{labels}{',' + rest if brace else '}'} {value} {scrape.at * 1000:.0f}\n"


@contextlib.contextmanager
def prometheus(tool: Tool, folder: Path, samples: Iterable[str], *, native: bool = False) -> Iterator[str]:
    """Its address, once it has these samples: of each series the older before the newer.

    ``native``: histograms are converted to native ones, which only release 3 can.
    """
    bodies = iter(["".join(samples).encode()])
    port, flags = free_port(), ["--enable-feature=native-histograms"] if native else []
    with serving(bodies) as address:
        job = {
            "job_name": "past",
            "honor_labels": True,
            "scrape_interval": EVERY,
            "scrape_timeout": EVERY,
            "static_configs": [{"targets": [address]}],
        } | ({"convert_classic_histograms_to_nhcb": True} if native else {})
        (folder / "prometheus.yml").write_text(json.dumps({"scrape_configs": [job]}))
        flags += [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        flags += [f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=100y"]
        with program([tool("prometheus"), *flags], folder / "log"):
            url = f"http://127.0.0.1:{port}"
            wait_for("Prometheus", partial(get, f"{url}/-/ready"))
            wait_for("its scrape", lambda: scraped(url), PATIENCE)
            yield url


def scraped(url: str) -> bool:
    text = get(f"{url}/api/v1/query?query=scrape_samples_scraped")
    return text is not None and bool(json.loads(text)["data"]["result"])


@contextlib.contextmanager
def serving(bodies: Iterator[bytes]) -> Iterator[str]:
    """Each request gets the next of these, and nothing after the last."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = next(bodies, b"")
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
