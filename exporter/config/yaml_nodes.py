"""A YAML file as entries: typed questions to its nodes, every wrong answer noted with line and key path.

Knows YAML and what a typed value is; must not know which keys exist (``model.py``) or what they are for.
No message shows a value except those that a parser chooses to show: any text here may be a secret.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, NoReturn, TypeVar

import yaml
from yaml.constructor import SafeConstructor

from exporter.errors import ConfigError, Problem
from exporter.process import reason

T = TypeVar("T")


class Structure(NamedTuple):
    """What is no plain value, by its kind only."""

    kind: str


YamlValue = str | int | float | bool | None | Structure
Parser = Callable[[YamlValue], T]
"""Takes what the file says, returns what the program uses; raises ValueRefusedError."""

FILE_LIMIT: Final = 1024 * 1024
EXPANDED_LIMIT: Final = 200_000
"""YAML nodes once every alias is written out: aliases of aliases grow without bound."""

_MERGE: Final = "tag:yaml.org,2002:merge"
_TEXTUAL: Final = ("str", "timestamp", "value")
"""Types that stay as written; a date is text here."""
_NOTHING: Final = "an empty value"
_PATIENCE: Final = 1.0
"""Seconds until a hint says that a pipe has no content yet."""
_NUMBER_LIMIT: Final = 40
NAME_LIMIT: Final = 19
"""Access keys begin at 20 characters."""
_NAME: Final = re.compile(r"[^\W\d_]+[0-9]{0,2}(?:[_-][^\W\d_]+[0-9]{0,2})*")
_QUOTED: Final = re.compile(r"""(['"])(?!<)(?:(?!\1).){2,}\1""")
"""A word of the file in PyYAML's message, unlike '<stream end>' or ':'."""


class ValueRefusedError(Exception):
    """A parser's answer to a value it cannot take; the message is a clause such as ``must be ...``."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line
        """In the file that was read, 0 when it has no place there."""


class Problems:
    """Collects what is wrong with one file."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._found: list[Problem] = []
        self.warnings: list[Problem] = []
        """What can be used, but may not be meant."""

    def add(self, line: int, path: str, message: str) -> None:
        self._found.append(Problem(self.file, line, path, message))

    @property
    def count(self) -> int:
        return len(self._found)

    def stop(self, line: int, message: str) -> NoReturn:
        self._found.append(Problem(self.file, line, "", message))
        raise self._error()

    def raise_if_any(self) -> None:
        if self._found:
            raise self._error()

    def _error(self) -> ConfigError:
        return ConfigError(tuple(sorted(dict.fromkeys(self._found), key=lambda problem: problem.line)))


class YamlEntry:
    """One value in the file."""

    def __init__(self, problems: Problems, node: yaml.Node, path: str, line: int | None = None) -> None:
        self.problems = problems
        self.path = path
        self._node = node
        self.line = node.start_mark.line + 1 if line is None else line

    def refuse(self, message: str) -> None:
        self.problems.add(self.line, self.path, message)

    def warn(self, message: str) -> None:
        self.problems.warnings.append(
            Problem(self.problems.file, self.line, self.path, f"warning: {message}")
        )

    def value(self, parse: Parser[T], default: T) -> T:
        """The parsed value, or ``default`` after noting what is wrong with it."""
        try:
            return parse(_read(self._node))
        except ValueRefusedError as refused:
            self.refuse(str(refused))
            return default

    def written(self, parse: Parser[T], default: T) -> T:
        """Like ``value``, as written: YAML takes +10:00 for a number to the base of 60."""
        node = self._node
        if isinstance(node, yaml.ScalarNode) and _kind(node) == "a number":
            node = yaml.ScalarNode("tag:yaml.org,2002:str", node.value, node.start_mark, node.end_mark)
        return YamlEntry(self.problems, node, self.path, self.line).value(parse, default)

    def items(self, what: str) -> tuple[YamlEntry, ...] | None:
        """The elements of a list; ``None`` when it is something else, which is noted."""
        if _kind(self._node) == _NOTHING:
            return ()
        if not isinstance(self._node, yaml.SequenceNode):
            self.refuse(f"must be a list of {what}, not {_kind(self._node)}")
            return None
        return tuple(
            YamlEntry(self.problems, node, f"{self.path}[{i}]") for i, node in enumerate(self._node.value)
        )

    def section(self, *, private: bool = False, words: bool = False) -> Section:
        """The keys of a mapping; none when it is something else, which is noted. See ``Section``."""
        return Section(self, self._node, private=private, words=words)


class Section:
    """The keys of one mapping. Used as a context manager: on leaving, keys nobody asked for are refused.

    In a ``private`` section no message shows a wrong key: a mistake can put a secret where a key belongs.
    With ``words`` what looks like a name is shown all the same: no access key or token does.
    """

    def __init__(
        self, entry: YamlEntry, node: yaml.Node | None, *, private: bool, words: bool = False
    ) -> None:
        self.entry = entry
        self._words = words
        self._private = private
        self._asked: list[str] = []
        self._entries: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        self.usable = True
        """False when there was no mapping here: what it lacks needs no further words."""
        if isinstance(node, yaml.MappingNode):
            self._collect(node)
        elif node is not None and _kind(node) != _NOTHING:
            self.usable = False
            entry.refuse(f"must be a mapping of keys to values, not {_kind(node)}")

    def __enter__(self) -> Section:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for key, (node, _) in self._entries.items():
            if kind is None and key not in self._asked:
                self._refuse_unknown(key, node)

    def get(self, key: str) -> YamlEntry | None:
        """The value of a key; asking makes the key a known one."""
        self._asked.append(key)
        if key not in self._entries:
            return None
        return self._entry(key, self._path(key))

    def value(self, key: str, parse: Parser[T], default: T) -> T:
        entry = self.get(key)
        return default if entry is None else entry.value(parse, default)

    def section(self, key: str, *, private: bool = False) -> Section:
        """The mapping under a key; an empty one when the key is missing."""
        if (entry := self.get(key)) is not None:
            return entry.section(private=private)
        return Section(self.entry, None, private=private)

    def entries(self) -> tuple[tuple[str, YamlEntry], ...]:
        """Every key with its value, where the file chooses the keys; a ``private`` section's stay unseen."""
        self._asked += self._entries
        return tuple(
            (key, self._entry(key, self.entry.path if self._private else self._path(key)))
            for key in self._entries
        )

    @property
    def empty(self) -> bool:
        return not self._entries

    def has(self, *keys: str) -> bool:
        return any(key in self._entries for key in keys)

    def blame(self, message: str, *keys: str) -> None:
        """Notes a contradiction at the first of the keys that is given."""
        given = [entry for key in keys if (entry := self.get(key)) is not None]
        [*given, self.entry][0].refuse(message)

    def _entry(self, key: str, path: str) -> YamlEntry:
        name, node = self._entries[key]
        return YamlEntry(self.entry.problems, node, path, name.start_mark.line + 1)

    def _path(self, key: str) -> str:
        return f"{self.entry.path}.{key}" if self.entry.path else key

    def _collect(self, node: yaml.MappingNode) -> None:
        own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        inherited: list[yaml.MappingNode] = []
        for name, value in node.value:
            line = name.start_mark.line + 1
            if name.tag == _MERGE:
                inherited += self._bases(value)
            elif not isinstance(name, yaml.ScalarNode) or _kind(name) != "text":
                self.entry.problems.add(line, self.entry.path, f"a key must be text, not {_kind(name)}")
            elif name.value in own:
                first = own[name.value][0].start_mark.line + 1
                self._refuse_key(name.value, line, f"is given twice, first on line {first}")
            else:
                own[name.value] = (name, value)
        for key, entry in own.items():
            self._entries.setdefault(key, entry)
        for base in inherited:
            self._collect(base)

    def _bases(self, node: yaml.Node) -> list[yaml.MappingNode]:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        bases = [base for base in nodes if isinstance(base, yaml.MappingNode)]
        if len(bases) != len(nodes):
            self.entry.problems.add(node.start_mark.line + 1, self.entry.path, "<< must name mappings")
        return bases

    def _refuse_unknown(self, key: str, node: yaml.Node) -> None:
        import difflib  # not at the top: most files have no unknown key

        near = difflib.get_close_matches(key.lower(), self._asked, n=1)
        known = ", ".join(dict.fromkeys(self._asked)) or "none"
        hint = f"did you mean {near[0]}?" if near else f"known here: {known}"
        self._refuse_key(key, node.start_mark.line + 1, f"is unknown; {hint}")

    def _refuse_key(self, key: str, line: int, message: str) -> None:
        shown = (self._words or not self._private) and _looks_like_a_name(key)
        known = key in self._asked or shown
        path = self._path(key) if known else self.entry.path
        self.entry.problems.add(line, path, message if known else f"a key on this line {message}")


def _looks_like_a_name(key: str) -> bool:
    """Words of letters, each with two digits at its end at most, and not as long as access keys are."""
    return len(key) <= NAME_LIMIT and _NAME.fullmatch(key) is not None


def read_yaml(
    path: Path, problems: Problems, *, empty: str = "at least one target must be given"
) -> YamlEntry:
    """The file's one document. Raises ConfigError at once when there is nothing to ask questions to.

    ``empty`` says what to do about a file without content.
    """
    text = _read_text(path, problems)
    try:
        documents = list(itertools.islice(yaml.compose_all(text, Loader=yaml.SafeLoader), 2))
        size = _expanded(documents[0], {}) if documents else 0
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = _QUOTED.sub("(not shown)", error.problem or error.context or "")
        if "'\\t'" in (error.problem or ""):
            reason = "a tab cannot indent, use blanks"
        problems.stop(mark.line + 1 if mark else 0, f"not valid YAML: {reason}")
    except yaml.reader.ReaderError as error:
        problems.stop(text.count("\n", 0, error.position) + 1, "not valid YAML: a control character")
    except RecursionError:
        problems.stop(0, "is nested too deeply")
    if len(documents) > 1:
        problems.stop(documents[1].start_mark.line + 1, "a second YAML document begins here: keep one")
    if size > EXPANDED_LIMIT:
        problems.stop(
            0, "its aliases (*name) are too many, or refer to themselves: write out what they repeat"
        )
    if not documents or _kind(documents[0]) == _NOTHING:
        problems.stop(0, f"is empty: {empty}")
    return YamlEntry(problems, documents[0], "")


def read_limited(path: Path, limit: int, *, regular: bool = False) -> str:
    """A text file's content without its byte order mark. Raises ValueRefusedError.

    ``regular`` refuses pipes and devices, which cannot be read twice; opening one does not wait for its
    other end, nor does it take a terminal.
    """
    try:
        with open(path, "rb", opener=_open_regular if regular else None) as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise ValueRefusedError(f"cannot be read: {reason(error)}") from None
    if len(data) > limit:
        raise ValueRefusedError(f"is larger than {limit // 1024} KiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueRefusedError("is not UTF-8 text", line) from None


def _open_regular(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise ValueRefusedError("is not a regular file")


def kind_of(value: YamlValue) -> str:
    """What a value is, for people; never the value itself."""
    match value:
        case Structure():
            return value.kind
        case None:
            return _NOTHING
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"


def _read_text(path: Path, problems: Problems) -> str:
    try:
        with _hint_while_waiting(path):
            return read_limited(path, FILE_LIMIT)
    except OSError as error:
        problems.stop(0, f"cannot be read: {reason(error)}")
    except ValueRefusedError as refused:
        problems.stop(refused.line, str(refused))


@contextlib.contextmanager
def _hint_while_waiting(path: Path) -> Iterator[None]:
    """A pipe may have a slow writer, or none at all. Raises OSError."""
    if not path.is_fifo():
        yield
        return
    line = f"{path}: waiting for somebody to write to this pipe"
    hint = threading.Timer(_PATIENCE, print, [line], {"file": sys.stderr})
    hint.start()
    try:
        yield
    finally:
        hint.cancel()


def _kind(node: yaml.Node) -> str:
    return kind_of(_read(node))


def _read(node: yaml.Node) -> YamlValue:
    """A node's plain value; its tag is believed only where YAML itself could have given it."""
    if not isinstance(node, yaml.ScalarNode):
        return Structure("a mapping" if isinstance(node, yaml.MappingNode) else "a list")
    name = node.tag.removeprefix("tag:yaml.org,2002:")
    if name in _TEXTUAL:
        return str(node.value)
    if name == "null":
        return None
    if name not in ("bool", "int", "float"):
        return Structure("a tagged value")
    if len(node.value) > _NUMBER_LIMIT:
        return Structure("one of so many digits")
    try:
        value: YamlValue = getattr(SafeConstructor(), f"construct_yaml_{name}")(node)
    except (ValueError, KeyError, IndexError):
        return Structure("a tagged value")  # such as !!int abc
    return value


def _expanded(node: yaml.Node, known: dict[int, int]) -> int:
    """Nodes below this one with every alias written out; over the limit also when it contains itself."""
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = EXPANDED_LIMIT + 1  # until it is counted: met again inside itself
    children: list[yaml.Node] = node.value if isinstance(node, yaml.SequenceNode) else []
    if isinstance(node, yaml.MappingNode):
        children = [child for pair in node.value for child in pair]
    known[id(node)] = 1 + sum(_expanded(child, known) for child in children)
    return known[id(node)]
