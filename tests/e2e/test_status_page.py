"""The status page of the real program, with an API that means harm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from testkit.processes import exporter, get, post, simulator, wait_for, write_config

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


@pytest.mark.e2e
def test_texts_of_the_api_are_escaped_on_the_page_not_in_json(tmp_path: Path) -> None:
    """A refused request with its code and request id; markup stays text; the keys are nowhere."""
    with simulator(tmp_path, "--rate=600", "--history=0") as cloud:
        path = write_config(tmp_path, cloud)
        keys = json.loads(path.read_text())["targets"][0]["auth"]["aksk"]
        with exporter(path, tmp_path) as program:

            def target() -> dict[str, Any] | None:
                text = get(f"{program.url}/api/v1/status")
                found = json.loads(text)["targets"] if text else []
                ready = found and found[0]["open_jobs"] and found[0]["state"] == "ok"
                return found[0] if ready else None

            first = wait_for("open jobs", target)
            assert sum(minute["created"] for minute in first["last_hour"]) > 0
            assert first["poll_budget"] > 0
            fault = {"kind": "error", "status": 400, "code": "MSS.00000001", "message": HOSTILE}
            post(f"{cloud}/simulator/faults", [fault])

            def errors() -> list[dict[str, Any]] | None:
                return json.loads(get(f"{program.url}/api/v1/status") or "")["api_errors"] or None

            newest = wait_for("an API error", errors)[0]
            page = get(f"{program.url}/") or ""
    assert (newest["http_status"], newest["error_code"]) == (400, "MSS.00000001")
    assert newest["request_id"]
    assert newest["request_id"] in page
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page
    for secret in keys.values():
        assert secret not in page + json.dumps(newest)
