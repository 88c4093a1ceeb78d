"""JSON that a strict decoder refuses, taken apart."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.cloud.http import loose_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(values=st.lists(JSON, max_size=5))
def test_an_array_is_cut_where_its_elements_end(values: list[object]) -> None:
    """Beside an element that no decoder takes, each other is found as it was written."""
    array = b"[ NaN ," + json.dumps(values).encode()[1:]
    assert [json.loads(element) for element in loose_json.elements(array, 10)[1:]] == values


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(values=st.dictionaries(st.text(max_size=6), JSON, max_size=5))
def test_an_object_is_cut_where_its_members_end(values: dict[str, object]) -> None:
    """Beside a member that no decoder takes, each other is found under its name."""
    sent = b'{ "NaN" : NaN ,' + json.dumps(values).encode()[1:]
    found = loose_json.members(sent)
    assert {name: json.loads(value) for name, value in found.items() if value != b"NaN"} == {
        name: value for name, value in values.items() if name != "NaN" or name in found
    }


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(text=st.text(alphabet='[]{},:"\\\\u0aN \x00', max_size=40))
def test_any_text_is_taken_apart_or_a_value_error(text: str) -> None:
    """Nothing else is ever raised."""
    for take in (
        loose_json.decode,
        loose_json.members,
        loose_json.decode_text,
        lambda body: loose_json.elements(body, 3),
    ):
        with contextlib.suppress(ValueError):
            take(text.encode())


@pytest.mark.slow
@pytest.mark.parametrize(
    "hostile",
    [
        b'["' + rb"\"" * 1_000_000,
        b"[" * 4_000_000,
        b"[" + b'"' * 4_000_001,
        b"[NaN" + b"," * 4_000_000 + b"]",
        b"[NaN," + b"[]," * 1_300_000 + b"]",
        b"[" + b"\\" * 4_000_000,
    ],
    ids=["escaped quotes", "brackets", "quotes", "commas", "lists", "backslashes"],
)
def test_time_grows_with_the_length_at_most(hostile: bytes) -> None:
    """Four megabytes of the worst are refused or cut while they are read once."""
    with pytest.raises(ValueError):  # noqa: PT011 - which one is of no matter
        loose_json.elements(hostile, 500)
