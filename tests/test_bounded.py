"""The bounded dictionary: which entry makes room."""

from __future__ import annotations

from exporter.bounded import BoundedDict


def test_the_entry_remembered_longest_ago_makes_room() -> None:
    """Remembering an entry again makes it the newest."""
    kept = BoundedDict[str, int](limit=2)
    for key, value in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
        kept.remember(key, value)
    assert list(kept.items()) == [("a", 3), ("c", 4)]


def test_a_value_set_in_place_makes_nothing_newer() -> None:
    """Else what is merely noted of an old entry would keep it."""
    kept = BoundedDict[str, int](limit=2)
    kept.remember("a", 1)
    kept.remember("b", 2)
    kept["a"] = 3
    kept.remember("c", 4)
    assert list(kept) == ["b", "c"]


def test_it_is_bounded_however_entries_are_set() -> None:
    """Each way in leaves the newest."""
    kept = BoundedDict[str, int](limit=2)
    for n, key in enumerate("abc"):
        kept[key] = n
    assert list(kept) == ["b", "c"]
    kept.setdefault("d", 3)
    assert list(kept) == ["c", "d"]
    kept.update(e=4, f=5, g=6)
    kept |= {"h": 7}
    assert kept == {"g": 6, "h": 7}


def test_what_is_older_comes_before_all_and_is_dropped_first() -> None:
    """And of an entry that is kept already the value stays; it is as old as it was said to be."""
    kept = BoundedDict[str, int](limit=3)
    kept.remember("a", 1)
    kept.remember("b", 2)
    kept.put_before({"x": 7, "b": 8})
    assert list(kept.items()) == [("x", 7), ("b", 2), ("a", 1)]
    kept.put_before({"y": 9})
    assert list(kept) == ["x", "b", "a"]
