"""``--save`` and ``simulate --from``: nothing private stands in the file, and it plays back."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path

import httpx
import pytest

from exporter.cloud import HttpAnswer
from exporter.commands.doctor.answer_file import AnswerFile
from exporter.simulator.auth import ACCESS_KEY, SECRET_KEY
from exporter.simulator.playback import build_playback, moved, read_recording
from exporter.simulator.simulation import PROJECT_ID
from tests.commands.doctor.corners import CORNERS
from tests.commands.doctor.support import NOON, SimulatedCloud

LATER = 40 * 86400 + 17.0
"""Seconds from the answers to the time when they are played back."""
SOME = (
    "documented",
    "oldest-first",
    "naive-china",
    "unix-ms-times",
    "only-unix-ms",
    "no-time-filters",
    "count-of-page",
    "no-count",
    "clipped-pages",
    "offset-by-page",
    "shallow-offsets-refused",
    "ignored-job-id",
    "isolated",
    "configs-denied",
    "no-job-ids",
)
OTHER_TEXTS = {"large-limit": "access", "unknown-values": "values", "configs-missing": "isolation"}
"""Findings whose text holds a name that is hashed, an error's id, or a number of requests."""
HEAD = '{"format": 1, "began": 1760000000}\n'
BACK = tuple(CORNERS) if "ALL_PAIRS" in os.environ else SOME
ID = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32}|ws-[0-9a-f]{6}"
    r"|(?:ws|https?|obs)://[^\"]*"
)


def saved(name: str, path: Path, **target: str) -> SimulatedCloud:
    """Doctor on that API, its answers in a file without any of their ids and links."""
    cloud = SimulatedCloud(CORNERS[name].options, CORNERS[name].world)
    file = AnswerFile("cn-north-4")
    cloud.heard = file
    answers: list[str] = []
    cloud.on_answer = answers.append
    cloud.first = cloud.findings(**target)
    path.write_bytes(file.content(NOON))
    written = path.read_text()
    assert not [it for it in ID.findall("".join(answers)) if it in written]
    return cloud


@pytest.mark.slow
@pytest.mark.parametrize("name", BACK)
def test_an_answer_file_played_back_gives_the_same_findings(name: str, tmp_path: Path) -> None:
    """Weeks later: times are moved to the present. Where ALL_PAIRS is set: of every corner."""
    cloud = saved(name, tmp_path / "answers.jsonl")
    again = SimulatedCloud(rate=0.0, hours=0.0)
    again.time.now = NOON + LATER
    again.app = build_playback(read_recording(tmp_path / "answers.jsonl"), again.time.wall)
    second = again.findings()
    times = ("records", "create_time", "voices", OTHER_TEXTS.get(name))  # moved on; ids are hashed
    for finding, first in cloud.first.items():
        assert (second[finding].verdict, second[finding].config) == (first.verdict, first.config), finding
        if finding not in times:
            assert second[finding].text == first.text


@pytest.mark.slow
def test_no_secret_and_no_id_of_the_answers_stands_in_the_file(tmp_path: Path) -> None:
    """Jobs, voices, links, requests, the project, the user, and the ids and numbers inside messages."""
    path = tmp_path / "answers.jsonl"
    cloud = SimulatedCloud({}, {}, rate=30.0)
    for job in list(cloud.world.jobs)[-60:]:
        job.final_state, job.finished = "FAILED", NOON - 1
        job.fail_msg = (
            f"upload to obs://bucket-{job.asset_id}/{job.job_id}.wav from 10.1.2.3 failed: 20251009"
        )
    file = AnswerFile("cn-north-4")
    cloud.heard = file
    answers: list[str] = []
    cloud.on_answer = answers.append
    cloud.findings(app_user_id="zhang-san-4711")
    path.write_bytes(file.content(NOON))
    written = path.read_text()
    sent = "".join(answers)
    ids = set(re.findall(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32}", sent))
    ids |= set(re.findall(r"ws-[0-9a-f]{6}", sent))
    assert len(ids) > 200
    assert not [it for it in ids if it in written]
    assert "https://" in sent
    for private in (
        "://",
        "Signature",
        ACCESS_KEY,
        SECRET_KEY,
        PROJECT_ID,
        "zhang-san",
        "10.1.2.3",
        "20251009",
    ):
        assert private not in written
    assert len(json.loads(written.splitlines()[1])["body"]["data"]) == 100


def test_an_id_of_any_form_is_taken_out_of_messages() -> None:
    """Also where it looks like a word: of the same record, or of one before."""
    file = AnswerFile("cn-north-4")
    records = [
        {
            "job_id": "tts_zhang_san",
            "asset_id": "voice.of.li",
            "fail_msg": "job tts_zhang_san: no voice.of.li",
        },
        {"job_id": "another_one", "fail_msg": "see tts_zhang_san"},
    ]
    body = json.dumps({"count": 2, "data": records}).encode()
    file("tts-jobs", (("limit", 2),), False, HttpAnswer(200, httpx.Headers(), body, 0.0, 0.0))
    written = file.content(NOON).decode()
    assert "zhang" not in written
    assert "voice.of" not in written
    assert "job <id>: no <id>" in written


@pytest.mark.parametrize(
    ("text", "private", "shown"),
    [
        ("asset HPUA1B2C3D4E5F6G7H8J is gone", "HPUA1", "asset <id> is gone"),
        ("shared with zoe.m@example.com only", "zoe", "shared with <mail> only"),
        ("bad certificate MIIFxwYJKoZIhvcNAQcCoIIF now", "MIIF", "bad certificate <id> now"),
        ("bad certificate MIIFxwYJ", "MIIF", "bad certificate <id>"),
        ("trace 8f3a2b1c9d ended", "8f3a", "trace <id> ended"),
        ("no file /home/anna/x.wav", "anna", "no file <path>"),
        ("no file C:\\Users\\anna\\x.wav", "anna", "no file <path>"),
        ("no file anna.wav here", "anna", "no file <name> here"),
        (
            "cannot put bucket.obs.cn-north-4.myhuaweicloud.com/path?Signature=abc",
            "Signature",
            "cannot put <path>",
        ),
        ("no bucket anna.obs.example.com", "anna", "no bucket <name>"),
        ("at https://a.example/x?sig=1 then", "a.example", "at <url> then"),
        ("job 12345 of user 9876", "12345", "job <number> of user 9876"),
        ("from fe80:0:0:1::5 at 2026-05-01T10:00:00Z", "fe80", "from <address> at <time>"),
        (
            "MSS.20050053 TTS_INSUFFICIENT_ACCOUNT_BALANCE",
            "",
            "MSS.20050053 TTS_INSUFFICIENT_ACCOUNT_BALANCE",
        ),
        ("音色 小美 不存在", "", "音色 小美 不存在"),
        ("text length 1200 exceeds 1000", "", "text length 1200 exceeds 1000"),
    ],
    ids=lambda it: it[:20],
)
def test_messages_name_no_person_place_or_thing(text: str, private: str, shown: str) -> None:
    """Nor where an id was not seen elsewhere; codes and words stay."""
    file = AnswerFile("cn-north-4")
    body = json.dumps({"count": 1, "data": [{"job_id": "j1", "fail_msg": text}]}).encode()
    file("tts-jobs", (), False, HttpAnswer(200, httpx.Headers(), body, 0.0, 0.0))
    written = json.loads(file.content(NOON).splitlines()[1])["body"]["data"][0]["fail_msg"]
    assert written == shown
    assert not private or private not in written


@pytest.mark.slow
def test_an_id_is_the_same_within_one_file_only(tmp_path: Path) -> None:
    """So that a job can be followed through the answers, and not found by guessing."""
    files = []
    for name in ("one", "two"):
        saved("documented", tmp_path / name)
        lines = [json.loads(line) for line in (tmp_path / name).read_text().splitlines()[1:]]
        first = next(line for line in lines if line["path"] == "tts-jobs")["body"]["data"][0]["job_id"]
        asked = [line["query"]["job_id"] for line in lines if "job_id" in line.get("query", {})]
        assert first in asked
        files.append(first)
    assert files[0] != files[1]


def test_what_was_not_asked_then_is_answered_from_all_records(tmp_path: Path) -> None:
    """As documented: an exporter may be tried on it."""
    saved("documented", tmp_path / "answers.jsonl")
    app = build_playback(read_recording(tmp_path / "answers.jsonl"), lambda: NOON + LATER)

    async def ask() -> list[dict[str, object]]:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://test"
        ) as client:
            path = f"/v1/{PROJECT_ID}/ttsc/tts-jobs"
            first = (await client.get(path, params={"limit": 3})).json()
            since = first["data"][-1]["create_time"]
            found = (await client.get(path, params={"limit": 50, "create_since": since})).json()
            return [first, found]

    first, found = asyncio.run(ask())
    assert first["data"] == found["data"]
    assert found["count"] == 3


@pytest.mark.parametrize(
    ("value", "later"),
    [
        ("2025-10-09T08:53:17Z", "2025-10-09T08:53:27Z"),
        ("2025-12-31T23:59:55.250+08:00", "2026-01-01T00:00:05.250+08:00"),
        ("2025-10-09 08:53:17", "2025-10-09 08:53:27"),
        ("1760000000", "1760000010"),
        (1760000000, 1760000010),
        (1760000000123, 1760000010123),
        ("yesterday", "yesterday"),
    ],
)
def test_a_time_is_moved_in_its_own_writing(value: str | int, later: str | int) -> None:
    """Whatever format and zone it has."""
    assert moved(value, 10) == later


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "not a file of doctor --save"),
        ('{"format": 9, "began": 1}', "format 9"),
        ("hello", "not a file"),
        (f'{HEAD}{{"path": "tts-jobs", "body": {{"data": null}}}}', "not a file"),
        (f'{HEAD}{{"path": "tts-jobs", "body": {{"data": [1]}}}}', "not a file"),
        (f'{HEAD}{{"path": "tts-jobs", "body": {{"data": [{{"job_id": []}}]}}}}', "not a file"),
        (f'{HEAD}{{"path": "tts-jobs", "status": 9999}}', "not a file"),
        ('{"format": 1, "began": -99999999999999}', "not a file"),
    ],
    ids=["empty", "newer", "text", "no-list", "no-record", "no-id", "no-status", "no-time"],
)
def test_another_file_is_refused_in_one_line(content: str, says: str, tmp_path: Path) -> None:
    """Also a file of a later version."""
    (tmp_path / "file").write_text(content)
    with pytest.raises(ValueError, match=says):
        read_recording(tmp_path / "file")


@pytest.mark.parametrize(
    "created", ["2023-99-14T25:13:20Z", "9999-12-31T23:59:59Z", 10**30, "\u0663", "\u00b2"]
)
def test_an_odd_time_is_played_back_as_it_is(created: str | int, tmp_path: Path) -> None:
    """And a wrong parameter is refused, as by the API."""
    body = {"count": 1, "data": [{"job_id": "a", "create_time": created}]}
    line = json.dumps({"path": "tts-jobs", "status": 200, "body": body})
    (tmp_path / "file").write_text(f"{HEAD}{line}\n")
    app = build_playback(read_recording(tmp_path / "file"), lambda: NOON + LATER)

    async def ask(**params: str) -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(f"/v1/{PROJECT_ID}/ttsc/tts-jobs", params=params)

    assert [it["job_id"] for it in asyncio.run(ask(limit="5")).json()["data"]] == ["a"]
    assert asyncio.run(ask(limit="x")).status_code == 400
