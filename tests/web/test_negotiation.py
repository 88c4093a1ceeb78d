"""What a client's headers are answered with."""

from __future__ import annotations

import pytest

from exporter.exposition.text import Format
from exporter.web.negotiation import accepts_gzip, choose_format

OPENMETRICS, PROMETHEUS = Format.OPENMETRICS, Format.PROMETHEUS


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        pytest.param("", PROMETHEUS, id="nothing-said"),
        pytest.param("*/*", PROMETHEUS, id="curl"),
        pytest.param(
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8",
            PROMETHEUS,
            id="browser",
        ),
        pytest.param(
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            OPENMETRICS,
            id="prometheus-2",
        ),
        pytest.param(
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,"
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
            "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            OPENMETRICS,
            id="prometheus-3",
        ),
        pytest.param("text/plain;version=0.0.4,*/*;q=0.1", PROMETHEUS, id="text-named"),
        pytest.param("application/openmetrics-text;q=0.4,text/plain;q=0.5", PROMETHEUS, id="quality-decides"),
        pytest.param("application/openmetrics-text;q=0.5,*/*", PROMETHEUS, id="wildcard-liked-better"),
        pytest.param("application/openmetrics-text,*/*", OPENMETRICS, id="named-before-wildcard"),
        pytest.param("text/plain,application/openmetrics-text", PROMETHEUS, id="equals-first-1"),
        pytest.param("application/openmetrics-text,text/plain", OPENMETRICS, id="equals-first-2"),
        pytest.param("application/openmetrics-text;version=2.0.0", OPENMETRICS, id="newer-version-clamped"),
        pytest.param("application/openmetrics-text;version=0.0.1", OPENMETRICS, id="older-version-clamped"),
        pytest.param("text/plain;version=9", PROMETHEUS, id="text-version-clamped"),
        pytest.param("application/openmetrics-text;q=0", PROMETHEUS, id="refused"),
        pytest.param(
            "application/openmetrics-text;q=0,application/*", PROMETHEUS, id="refused-despite-wildcard"
        ),
        pytest.param("text/plain;q=0,*/*;q=0.5", PROMETHEUS, id="nothing-acceptable-still-answers"),
        pytest.param("application/*", OPENMETRICS, id="subtype-wildcard"),
        pytest.param("Application/OpenMetrics-Text ; Q=1.0", OPENMETRICS, id="case-and-blanks"),
        pytest.param(
            "application/openmetrics-text;q=high,text/plain;q=0.1", PROMETHEUS, id="unreadable-quality"
        ),
        pytest.param("application/openmetrics-text;q=nan", PROMETHEUS, id="not-a-number"),
        pytest.param("application/openmetrics-text;q=1e9", PROMETHEUS, id="exponent"),
        pytest.param("image/png", PROMETHEUS, id="something-else"),
        pytest.param(",;,;;q=,=", PROMETHEUS, id="garbage"),
    ],
)
def test_format_follows_accept(accept: str, expected: Format) -> None:
    """Qualities first, then how exactly a range names a format, then order; never a refusal."""
    assert choose_format(accept) is expected


@pytest.mark.parametrize(
    ("accept_encoding", "expected"),
    [
        ("", False),
        ("gzip", True),
        ("deflate, gzip;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("identity", False),
        ("*", True),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("x-gzip", True),
        ("GZIP", True),
        ("gzipped", False),
        ("br;q=1.0, *;q=0.1", True),
    ],
)
def test_gzip_only_for_those_who_read_it(accept_encoding: str, expected: bool) -> None:
    """Named or covered by ``*``, and not refused."""
    assert accepts_gzip(accept_encoding) is expected
