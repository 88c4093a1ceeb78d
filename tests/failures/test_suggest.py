"""Rules to paste: they load, and they match what they were made from."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.config import load_config
from exporter.failures.classify import Classifier, compile_rule
from exporter.failures.suggest import as_yaml, suggest

MESSAGES = {
    "plain": ("voice model is not ready", "voice_model_is_not_ready", "voice model is not ready"),
    "number": ("asset 1234567 is gone", "asset_is_gone", "asset 7654321 is gone"),
    "uuid": (
        "no asset 0f8fad5b-d9cb-469f-a165-70867728950e (x)",
        "no_asset_x",
        "no asset 7c9e6679-7425-40de-944b-e07fc1f90ae7 (x)",
    ),
    "short_id": ("trace 0f1e2d3c4b5a6978 gone", "trace_gone", "trace 9999888877776666 gone"),
    "url": (
        "cannot fetch https://a.example/x?y=[1] now",
        "cannot_fetch_now",
        "cannot fetch https://b.example/ now",
    ),
    "time": ("late since 2026-05-01T10:00:00Z", "late_since", "late since 2027-11-30 23:59:59.5+08:00"),
    "quotes": ("it's \"broken\": {'a': 1}", "it_s_broken_a", "it's \"broken\": {'a': 23}"),
    "score": ("rejected (score 0.53)", "rejected_score", "rejected (score 12.1)"),
    "blanks": ("two  blanks\tand\nlines", "two_blanks_and_lines", "two\tblanks  and lines"),
    "chinese": ("音色「小美」不存在：12345678", "my_class", "音色「小美」不存在：87654321"),
    "regex": ("a.b*c+(d)|[e]^$ \\ {2}", "a_b_c_d_e", "a.b*c+(d)|[e]^$ \\ {35}"),
    "markup": ("<script>alert('x')</script>", "script_alert_x_script", "<script>alert('x')</script>"),
    "spoofed_mask": ("value <number> is wrong", "value_number_is_wrong", "value <number> is wrong"),
    "reserved_name": ("no message", "no_message_", "no message"),
    "only_a_number": ("1234567", "my_class", "7654321"),
}


def loaded(tmp_path: Path, rule: str) -> Classifier:
    """The rule pasted into a file and read as the exporter reads it."""
    path = tmp_path / "exporter.yaml"
    path.write_text(
        f"targets:\n  - name: t\n    region: cn-north-4\nfail_msg_classes:\n{rule}", encoding="utf-8"
    )
    return Classifier((one.class_name, one.match) for one in load_config(path).fail_msg_classes)


@pytest.mark.parametrize(("message", "name", "sibling"), MESSAGES.values(), ids=MESSAGES)
def test_a_pasted_rule_takes_the_message_and_its_siblings(
    tmp_path: Path, message: str, name: str, sibling: str
) -> None:
    """As a file with the rule in it is loaded; a stranger stays unclassified."""
    classifier = loaded(tmp_path, as_yaml(suggest(message)))
    assert classifier.classes[0] == name
    assert classifier.classify(message) == classifier.classify(sibling) == name
    assert classifier.classify("something else 99") == "unclassified"


@pytest.mark.slow
@given(st.text(min_size=1, max_size=400).filter(lambda text: text.strip() != ""))
@example("\ud800 broken \x00 text\u202e\ufeff")
@example("x" * 5000)
@example("\ufffe\uffff")
@example("7" * 3000 + " tail")
def test_every_rule_matches_its_message(message: str) -> None:
    """Whatever the message holds; and the YAML is two lines without control characters."""
    suggestion = suggest(message[:1024])
    assert compile_rule(suggestion.match).search(message.encode("utf-8", "replace"))
    text = as_yaml(suggestion)
    assert text.count("\n") == 2
    assert text.replace("\n", "").isprintable()


INVISIBLE = st.text(
    "\x00\x01\x1f\x7f\x85\xad\u200b\u2065\u3000\ue000\uffff\U0010ffff", min_size=1, max_size=200
)


@given(st.one_of(INVISIBLE, st.text(min_size=1, max_size=200)).filter(lambda text: text.strip() != ""))
@example("\x00")
@example("\ue000")
@example("\x00 \x017")
def test_no_rule_matches_anything(message: str) -> None:
    """Also of rubbish: strangers of the same length, in three alphabets, are not all taken."""
    rule = compile_rule(suggest(message).match)
    assert not all(rule.search((letter * len(message)).encode()) for letter in "q7音")


@pytest.mark.slow
@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=80).filter(lambda t: t.strip()))
def test_every_rule_loads(tmp_path_factory: pytest.TempPathFactory, message: str) -> None:
    """From a real file, by the real loader."""
    suggestion = suggest(message)
    classifier = loaded(tmp_path_factory.mktemp("rules"), as_yaml(suggestion))
    assert classifier.classify(message) == suggestion.class_name
