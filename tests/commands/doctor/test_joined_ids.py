"""What --save writes of a message holds no part of an id."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.commands.doctor.answer_file import AnswerFile


def _saved(text: str) -> str:
    return AnswerFile("cn-north-4").message(text)


@given(st.uuids(), st.sampled_from(["-", "_"]))
def test_no_part_of_a_uuid_is_left(uuid: UUID, joint: str) -> None:
    assert _saved(f"task {str(uuid).replace('-', joint)} failed") == "task <id> failed"


@pytest.mark.parametrize(
    "secret",
    [
        "job_8f3a_77bc_9a11",
        "req-ab12-cd34-ef56",
        "sk-abcd-efgh-ijkl-mnop",
        "138-0013-8000",
        "ABCDEFGHIJKLMNOPQRST",
    ],
)
def test_joined_ids_are_masked(secret: str) -> None:
    assert _saved(f"task {secret} failed") == "task <id> failed"


@pytest.mark.parametrize(
    "plain", ["voice not-found", "text_length too long", "MSS.20050034", "read-only state"]
)
def test_plain_words_and_codes_stay(plain: str) -> None:
    assert _saved(plain) == plain
