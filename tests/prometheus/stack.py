"""Prometheus, Alertmanager and a receiver of its notifications, as real processes on loopback."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from testkit.processes import free_port, get, wait_for

Alert = dict[str, Any]


class Receiver:
    """Collects what Alertmanager sends to its webhook."""

    def __init__(self) -> None:
        self.alerts: list[Alert] = []
        alerts = self.alerts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                alerts.extend(json.loads(body)["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"

    def got(self, name: str, status: str) -> Alert | None:
        """The first notification of that alert in that status (``firing``, ``resolved``)."""
        for alert in self.alerts:
            if alert["labels"]["alertname"] == name and alert["status"] == status:
                return alert
        return None


class Stack(NamedTuple):
    """What the test talks to."""

    prometheus: str
    receiver: Receiver

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        text = get(f"{self.prometheus}/api/v1/alerts") or '{"data": {"alerts": []}}'
        alerts = json.loads(text)["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def value(self, query: str) -> float:
        """Of a query with one result; 0 where it has none."""
        text = get(f"{self.prometheus}/api/v1/query?{urllib.parse.urlencode({'query': query})}")
        found = json.loads(text or '{"data": {"result": []}}')["data"]["result"]
        return float(found[0]["value"][1]) if found else 0.0

    def has(self, series: str) -> bool:
        """Whether there is a sample of it now."""
        text = get(f"{self.prometheus}/api/v1/query?query={series}")
        return text is not None and bool(json.loads(text)["data"]["result"])


@contextlib.contextmanager
def program(arguments: Sequence[str | Path], log: Path) -> Iterator[None]:
    """A process that ends with the block."""
    with log.open("wb") as out:
        process = subprocess.Popen(arguments, stdout=out, stderr=subprocess.STDOUT)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


@contextlib.contextmanager
def stack(
    tool: Callable[[str], Path], tmp_path: Path, rules: object, *exporters: str, native: bool = False
) -> Iterator[Stack]:
    """``exporters`` (host:port) -> Prometheus with ``rules`` -> Alertmanager -> receiver.

    ``native``: histograms are converted to native ones, which only Prometheus 3 can.
    """
    prometheus, alertmanager = tool("prometheus"), tool("prometheus-alertmanager")
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, kwargs={"poll_interval": 0.1})
    thread.start()
    ports = free_port(), free_port()
    addresses = [f"127.0.0.1:{port}" for port in ports]
    (tmp_path / "rules.yaml").write_text(json.dumps(rules))
    (tmp_path / "alertmanager.yaml").write_text(json.dumps(_alertmanager(receiver.url)))
    (tmp_path / "prometheus.yaml").write_text(json.dumps(_prometheus(exporters, addresses[1], native)))
    with contextlib.ExitStack() as ends:
        ends.callback(thread.join, 10)
        ends.callback(receiver.server.server_close)
        ends.callback(receiver.server.shutdown)
        flags: list[str | Path] = [alertmanager, f"--config.file={tmp_path}/alertmanager.yaml"]
        flags += [f"--storage.path={tmp_path}/alertmanager", f"--web.listen-address={addresses[1]}"]
        ends.enter_context(program([*flags, "--cluster.listen-address="], tmp_path / "alertmanager.log"))
        flags = [prometheus, f"--config.file={tmp_path}/prometheus.yaml"]
        flags += [f"--storage.tsdb.path={tmp_path}/tsdb", f"--web.listen-address={addresses[0]}"]
        flags += ["--enable-feature=native-histograms"] if native else []
        ends.enter_context(program(flags, tmp_path / "prometheus.log"))
        for address in addresses:
            wait_for(f"{address} to be ready", partial(get, f"http://{address}/-/ready"))
        yield Stack(f"http://{addresses[0]}", receiver)


def _alertmanager(url: str) -> object:
    route = {"receiver": "test", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s"}
    return {
        "route": {**route, "repeat_interval": "1h"},
        "receivers": [{"name": "test", "webhook_configs": [{"url": url, "send_resolved": True}]}],
    }


def _prometheus(exporters: Sequence[str], alertmanager: str, native: bool) -> object:
    job: dict[str, object] = {"job_name": "metastudio-tts", "static_configs": [{"targets": [*exporters]}]}
    if native:
        job["convert_classic_histograms_to_nhcb"] = True
    return {
        "global": {"scrape_interval": "1s", "evaluation_interval": "500ms"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [job],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
    }
