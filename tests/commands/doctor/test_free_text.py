"""What --save makes of messages: ids that fields show are gone whatever they look like, words stay."""

from __future__ import annotations

import json
import string

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.cloud import HttpAnswer
from exporter.commands.doctor.answer_file import AnswerFile
from exporter.commands.doctor.asking import Unanswered
from exporter.commands.doctor.free_text import without_names
from exporter.simulator.messages import MESSAGES
from tests.commands.doctor.support import NOON

UNIT = st.text(string.ascii_letters + string.digits, min_size=2, max_size=6)
IDS = st.builds(
    str.join, st.sampled_from(["-", "_", ".", ":", "~", ""]), st.lists(UNIT, min_size=2, max_size=5)
).filter(lambda it: len(it) >= 6)
"""As a service may make them: also of short words, with any joint."""
ID_FIELDS = ("job_id", "asset_id", "websocket_job_id", "user_id", "project", "bucket_name")


@given(
    ids=st.lists(IDS, min_size=1, max_size=4, unique_by=str.lower),
    field=st.sampled_from(ID_FIELDS),
    upper=st.booleans(),
    message_first=st.booleans(),
)
def test_no_id_that_a_field_shows_is_left_in_a_message(
    ids: list[str], field: str, upper: bool, message_first: bool
) -> None:
    """Whichever of the answers shows it, before the message or after it, and however it is spelled there."""
    secret = f"zq{ids[0]}"  # in none of the words of the file
    shown = {"data": [{field: one} for one in (secret, *ids[1:])]}
    message = {
        "data": [{"job_id": "other-job", "fail_msg": f"no {secret.upper() if upper else secret} here"}]
    }
    file = AnswerFile("cn-north-4")
    for content in (message, shown) if message_first else (shown, message):
        file("tts-jobs", (), False, HttpAnswer(200, httpx.Headers(), json.dumps(content).encode(), 0.0, 0.0))
    written = file.content(NOON).decode()
    assert secret.lower() not in written.lower()
    assert "no <id> here" in written


def test_who_asks_is_taken_out_of_errors() -> None:
    """No answer shows it."""
    file = AnswerFile("cn-north-4", ["zhang-san"])
    file("tts-jobs", (), True, Unanswered("403 user zhang-san has no permission", 403, by_rule=False))
    assert json.loads(file.content(NOON).splitlines()[1])["text"] == "403 user <id> has no permission"


@pytest.mark.parametrize(
    "text",
    [
        "segments 1-24 of 100-200 failed",
        "real-time-long-text mode is off",
        "not-found-in-this-list",
        "INTERNALSERVERERROR",
        "AUTHENTICATIONFAILURE",
        "HTTPServerError",
        "InsufficientBalanceException",
        "TTS_INSUFFICIENT_ACCOUNT_BALANCE",
        "utf-8 or iso-8859-1",
        "region cn-north-4",
        "worker 12 of gpu-3",
        "step 1-2-3",
        "format mp3-16k",
    ],
)
def test_words_and_numbers_stay(text: str) -> None:
    """They are what a bug report is about."""
    assert without_names(text) == text


@pytest.mark.parametrize("kind", MESSAGES)
def test_what_a_service_says_without_ids_stays(kind: str) -> None:
    """Every text of the simulator, with small numbers in it."""
    for text in MESSAGES[kind]:
        if (
            "://" not in text
            and "10.0" not in text
            and "10000" not in text
            and "'" not in text
            and "_id=" not in text
            and "{uuid}.wav" not in text
        ):
            plain = text.format(uuid="one", hex="two", n=1200, n2=34)
            assert without_names(plain) == plain


@given(st.lists(st.text("0123456789abcdef", min_size=4, max_size=8), min_size=2, max_size=6), st.booleans())
def test_groups_of_hex_digits_are_an_id(groups: list[str], upper: bool) -> None:
    """Joined or not, where letters and digits are mixed."""
    groups = [f"{group[:-2]}a7" for group in groups]
    token = "-".join(groups)
    assert without_names(f"task {token.upper() if upper else token} failed") == "task <id> failed"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('speaker "Anna Karenina" is missing', 'speaker "<text>" is missing'),
        ("the text '你好世界' of “小美”", "the text '<text>' of “<text>”"),
        ("error in `SELECT * FROM customers`", "error in `<text>`"),
        ("can't read the job's file, it's gone", "can't read the job's file, it's gone"),
        ("user=anna password=hunter2 refused", "user=<name> password=<name> refused"),
        ("password: hunter2, 口令：芝麻开门", "password: <name>, 口令：<name>"),
        ("Token is expired", "Token is expired"),
    ],
)
def test_quotations_and_values_of_keys_are_left_out(text: str, shown: str) -> None:
    """They are somebody's text, or somebody's name."""
    assert without_names(text) == shown


@pytest.mark.parametrize(
    "secret",
    [
        "AK-abcd-efgh",
        "ak_abcdefgh",
        "job-ab-cd-ef-gh-12",
        "ABCDEFGHIJKLMNOPQRST",
        "abcdefghijklmnopqrstuvwxyz",
        "MIIFxwYJKoZIhvcNAQcCoIIF",
        "tel-138-0013-8000",
        "ab1d-efgh-ijkl-mnop",
    ],
)
def test_keys_and_ids_are_known_by_their_form(secret: str) -> None:
    """Where no field shows them."""
    assert without_names(f"denied for {secret}, sorry") == "denied for <id>, sorry"
