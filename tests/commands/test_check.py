"""``check``: what it prints and the exit code it gives."""

from __future__ import annotations

import io
import os
import re
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exporter import log
from exporter.commands.check import NO_FLAGS, Estimate, check, estimates
from exporter.commands.preflight import Flags
from exporter.config import load_config
from exporter.errors import StoreError
from exporter.runtime.storage import open_store
from exporter.store.sqlite import SqliteStore
from testkit.processes import free_port
from tests.config.test_load import without_lists
from tests.conftest import Golden
from tests.paths import ROOT, TESTS

BAD = TESTS / "config" / "bad"


KEYS = {"HUAWEICLOUD_SDK_AK": "AK", "HUAWEICLOUD_SDK_SK": "SK"}


def _check(
    path: Path, *, estimate: bool = False, environ: dict[str, str] | None = None, flags: Flags = NO_FLAGS
) -> tuple[int, str]:
    out = io.StringIO()
    code = check(
        path,
        environ=KEYS if environ is None else environ,
        out=out,
        redactor=log.Redactor(),
        estimate=estimate,
        flags=flags,
    )
    return code, out.getvalue()


def test_valid_file() -> None:
    """A valid file gives one line and 0."""
    path = ROOT / "exporter.yaml"
    assert _check(path) == (0, f"{path}: valid, 1 target\n")


def test_several_targets(tmp_path: Path) -> None:
    """The targets are counted."""
    path = tmp_path / "exporter.yaml"
    path.write_text("targets: [{name: a, region: r}, {name: b, region: r}]")
    assert _check(path) == (0, f"{path}: valid, 2 targets\n")


@pytest.mark.parametrize("estimate", [False, True])
def test_every_problem_is_a_line(estimate: bool, golden: Golden) -> None:
    """All problems are printed, one a line, and the code is 1."""
    code, text = _check(BAD / "many_at_once.yaml", estimate=estimate)
    assert code == 1
    golden(BAD / "many_at_once.expected", without_lists(text).replace(f"{BAD}/", ""))


def test_missing_file(tmp_path: Path) -> None:
    """A missing file is a problem like any other."""
    path = tmp_path / "exporter.yaml"
    assert _check(path) == (1, f"{path}: cannot be read: No such file or directory\n")


def test_environment_is_checked(tmp_path: Path) -> None:
    """The environment belongs to the configuration."""
    path = ROOT / "exporter.yaml"
    code, text = _check(path, environ={"HUAWEICLOUD_SDK_IAM_ENDPOINT": "iam"})
    assert (code, text.count("\n")) == (1, 1)
    assert "the environment variable HUAWEICLOUD_SDK_IAM_ENDPOINT must be a URL" in text


def test_estimate() -> None:
    """The estimate is labelled as one and adds up."""
    path = ROOT / "exporter.yaml"
    assert _check(path, estimate=True) == (
        0,
        f"{path}: valid, 1 target\n"
        "estimated requests a minute in the quiet case; new, open and late jobs add to it:\n"
        "  production: 4.4 (head 4.0, settle 0.4; rate_limit allows 300)\n"
        "estimated series, and samples a day at a scrape every 15s, without jobs and with jobs of every"
        " documented kind; open jobs and rare answers of the API add to it:\n"
        "  production: 856 to 1,912 series, 4,930,560 to 11,013,120 samples a day\n"
        "  the process itself: 20 to 20 series, 115,200 to 115,200 samples a day\n"
        "  all: 876 to 1,932 series, 5,045,760 to 11,128,320 samples a day\n",
    )


@pytest.mark.parametrize(
    ("poll", "head", "settle"),
    [
        pytest.param("{interval: 1m, overlap: 10m}", 1.0, 0.2, id="twice per overlap"),
        pytest.param("{interval: 4s, overlap: 5s}", 15.0, 15.0, id="at most once per poll"),
    ],
)
def test_estimate_follows_the_settings(poll: str, head: float, settle: float, tmp_path: Path) -> None:
    """One head read a poll; a settle read whenever half an overlap is due, but no oftener than polls."""
    path = tmp_path / "exporter.yaml"
    path.write_text(f"poll: {poll}\ntargets: [{{name: a, region: r, rate_limit: 0.5}}]")
    (estimate,) = estimates(load_config(path))
    assert estimate == Estimate("a", head=head, settle=settle, limit=30.0)
    assert estimate.total == head + settle


def test_a_status_page_that_cannot_be_shown_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its library is loaded when somebody asks for the page: no start would notice."""
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delitem(sys.modules, "exporter.status.page", raising=False)
    code, text = _check(ROOT / "exporter.yaml")
    assert (code, text.count("\n")) == (0, 2)
    assert "warning: the status page cannot be shown, the rest can: import of jinja2 halted" in text


HASH = "$2y$04$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("{}", 0, "{web}: valid, no TLS, no passwords"),
        (f"basic_auth_users: {{a: {HASH}}}", 0, "{web}: valid, no TLS, 1 user"),
        ("rate_limits: {}", 1, "{web}:1: a key on this line is unknown; did you mean rate_limit?"),
    ],
    ids=["open", "users", "bad"],
)
@pytest.mark.parametrize("config", [ROOT / "exporter.yaml", BAD / "no_targets.yaml"], ids=["good", "bad"])
def test_the_web_configuration_is_checked_too(
    text: str, code: int, said: str, config: Path, tmp_path: Path
) -> None:
    """Both files are, whatever is wrong with the other one; either fails the check."""
    web, out = tmp_path / "web.yml", io.StringIO()
    web.write_text(text)
    alone, expected = _check(config)
    assert check(config, environ=KEYS, out=out, redactor=log.Redactor(), web_config_path=web) == max(
        code, alone
    )
    assert out.getvalue() == expected + said.format(web=web) + "\n"


TARGETS = "targets: [{name: a, region: r}]\n"


def _written(folder: Path, text: str = TARGETS, store: str = "books.db") -> Path:
    path = folder / "exporter.yaml"
    path.write_text(f"storage: {{url: 'sqlite:///{store}'}}\n{text}")
    return path


LONG = f"{'a' * 100}/" * 5 + "books.db"


def _nothing(folder: Path) -> None:
    """The folder as it is."""


def _read_only(path: Path) -> None:
    path.touch()
    path.chmod(0o400)


FOREIGN = "PRAGMA user_version = 3; CREATE TABLE recipes (name TEXT)"
UNUSABLE: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "no-folder": ("no/books.db", _nothing, ".lock: no file can be made in {folder}/no (No such file"),
    "file-as-folder": ("file/books.db", lambda f: (f / "file").touch(), ".lock: cannot be opened (Not a"),
    "proc": ("/proc/books.db", _nothing, ".lock: no file can be made in /proc (No such file"),
    "folder": ("books.db", lambda f: (f / "books.db").mkdir(), ": cannot be opened (Is a directory)"),
    "fifo": ("books.db", lambda f: os.mkfifo(f / "books.db"), ": is not a regular file"),
    "device": ("/dev/null", _nothing, ": is not a regular file"),
    "lock-folder": ("books.db", lambda f: (f / "books.db.lock").mkdir(), ".lock: cannot be opened (Is a"),
    "lock-elsewhere": (
        "books.db",
        lambda f: (f / "books.db.lock").symlink_to(f / "no" / "lock"),
        ".lock: no file can be made in {folder}/no (No such file",
    ),
    "other-file": ("books.db", lambda f: (f / "books.db").write_text("x" * 99), ": the store is damaged"),
    "rubbish-after-a-good-header": (
        "books.db",
        lambda f: (f / "books.db").write_bytes(b"SQLite format 3\0" + b"rubbish" * 999),
        ": the store is damaged",
    ),
    "other-program": (
        "books.db",
        lambda f: sqlite3.connect(f / "books.db").executescript(FOREIGN).connection.close(),
        ": this SQLite file belongs to another program",
    ),
    "log-without-database": (
        "books.db",
        lambda f: (f / "books.db-wal").write_text("x"),
        "-wal: belongs to a database that is not there",
    ),
    "log-folder": ("books.db", lambda f: (f / "books.db-wal").mkdir(), "-wal: is not a regular file"),
    "shared-folder": ("books.db", lambda f: (f / "books.db-shm").mkdir(), "-shm: is not a regular file"),
    "journal-folder": (
        "books.db",
        lambda f: (f / "books.db-journal").mkdir(),
        "-journal: is not a regular file",
    ),
    "circle": ("books.db", lambda f: (f / "books.db").symlink_to("books.db"), ": cannot be "),
    "long-name": ("b" * 300, _nothing, "cannot be opened (File name too long)"),
    "long-path": (LONG, lambda f: (f / LONG).parent.mkdir(parents=True), ": longer than the 504 bytes"),
}


@pytest.mark.parametrize(("store", "prepare", "said"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_store_that_cannot_be_opened(
    store: str, prepare: Callable[[Path], object], said: str, tmp_path: Path
) -> None:
    """It would keep the exporter from starting, so it fails the check, which changes nothing."""
    prepare(tmp_path)
    config = _written(tmp_path, store=store)
    before = set(tmp_path.rglob("*"))
    code, text = _check(config)
    assert (code, text.count("\n")) == (1, 1)
    assert f"exporter.yaml: storage.url: {tmp_path / store}" in text
    assert said.format(folder=tmp_path) in text
    assert set(tmp_path.rglob("*")) == before
    with pytest.raises(StoreError):
        open_store(load_config(config), log.Redactor())


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes a small file system of its own with these options."""
    folder = tmp_path / "small"
    folder.mkdir()

    def make(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if subprocess.run(command, check=False, capture_output=True).returncode != 0:
            pytest.skip("mounting a file system is not allowed here")
        return folder

    yield make
    subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)


@pytest.mark.parametrize("options", ["size=4k", "nr_inodes=3", "ro"])
def test_a_file_system_without_room(options: str, mount: Callable[[str], Path], tmp_path: Path) -> None:
    """Not enough space, too few files, or none at all."""
    folder = mount(options)
    code, text = _check(_written(tmp_path, store="small/books.db"))
    assert (code, text.count("\n")) == (1, 1)
    assert f"no file can be made in {folder} (" in text or f"no space left in {folder}" in text
    assert list(folder.iterdir()) == []


def test_a_store_that_is_there(tmp_path: Path) -> None:
    """Good, and left as it is; while an exporter has it open it is not looked into, and a warning."""
    path = tmp_path / "books.db"
    SqliteStore(path).close()
    config = _written(tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    assert _check(config) == (0, f"{config}: valid, 1 target\n")
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
    store = SqliteStore(path)
    code, text = _check(config)
    store.close()
    assert (code, text.count("\n")) == (0, 2)
    assert f"warning: storage.url: {path}: another exporter is using this store" in text


def test_addresses_that_are_in_the_way_of_each_other(tmp_path: Path) -> None:
    """Each of them is free, and the exporter could not start with both."""
    port = free_port()
    for addresses in ([f"127.0.0.1:{port}"] * 2, [f"*:{port}", f"127.0.0.1:{port}"]):
        code, text = _check(_written(tmp_path), flags=Flags(addresses))
        assert code == 1
        assert f"{addresses[1]}: address already in use; " in text
        assert "give it only once" in text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("what", ["folder", "books.db", "books.db.lock"])
def test_a_store_that_may_not_be_written(what: str, tmp_path: Path) -> None:
    """By the user who checks, who should be the one that runs it."""
    path = _written(tmp_path)
    if what == "folder":
        tmp_path.chmod(0o500)
    else:
        _read_only(tmp_path / what)
    code, text = _check(path)
    assert code == 1
    assert "(Permission denied)" in text


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({}, "(environment: HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK not set; credentials file: set"),
        ({"HUAWEICLOUD_SDK_AK": "AK"}, "(environment: HUAWEICLOUD_SDK_SK not set; credentials file: set"),
        ({"HOME": "{folder}"}, "credentials file {folder}/.huaweicloud/credentials: cannot be read: No such"),
    ],
    ids=["nothing", "half", "no-file"],
)
def test_no_credentials_but_the_agency_are_a_warning(
    environ: dict[str, str], reason: str, tmp_path: Path
) -> None:
    """Only the network can tell whether the machine has one."""
    given = {name: value.format(folder=tmp_path) for name, value in environ.items()}
    code, text = _check(_written(tmp_path), environ=given)
    assert (code, text.count("\n")) == (0, 2)
    assert "exporter.yaml: warning: no credentials here for a: only the agency" in text
    assert reason.format(folder=tmp_path) in text


@pytest.mark.parametrize(
    "environ",
    [KEYS, {"HC_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1/x"}],
    ids=["keys", "pod-identity"],
)
def test_credentials_that_are_there_need_no_word(environ: dict[str, str], tmp_path: Path) -> None:
    """Neither does a target with its own."""
    assert _check(_written(tmp_path), environ=environ)[1].count("\n") == 1
    own = _written(tmp_path, "targets: [{name: a, region: r, auth: {agency: {}}}]")
    assert _check(own, environ={})[1].count("\n") == 1


@pytest.mark.parametrize(
    ("zone", "warned"),
    [
        ("Europe/Berlin", True),
        ("America/New_York", True),
        ("Asia/Shanghai", False),
        ("UTC", False),
        ("'+08:00'", False),
    ],
)
def test_daylight_saving_is_a_warning(zone: str, warned: bool, tmp_path: Path) -> None:
    """With its place in the file; the file is valid."""
    path = _written(
        tmp_path, f"targets:\n- {{name: a, region: r}}\n- {{name: b, region: r, time_zone: {zone}}}"
    )
    code, text = _check(path)
    line = f"{path}:4: targets[1].time_zone: warning: has daylight saving time: "
    assert (code, line in text, text.count("\n")) == (0, warned, 1 + warned)


def test_a_line_break_in_a_pattern_is_a_warning(tmp_path: Path) -> None:
    """Two lines of a block are no two patterns."""
    path = _written(tmp_path, f"fail_msg_classes:\n- class: a\n  match: |\n    x\n    y\n{TARGETS}")
    code, text = _check(path)
    assert code == 0
    assert f"{path}:4: fail_msg_classes[0].match: warning: has a line break in its middle" in text


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (Flags(["nonsense"]), "--web.listen-address 'nonsense': must be HOST:PORT"),
        (Flags([":0", "192.0.2.1:0"]), "--web.listen-address 192.0.2.1:0: cannot assign requested address"),
        (Flags(telemetry_path="metrics"), "--web.telemetry-path 'metrics': must be a plain path"),
        (Flags(shard=(0, 2)), "--shard=0/2: no target falls to this shard"),
    ],
    ids=["form", "other-machine", "path", "shard"],
)
def test_flags_of_serve_are_checked(flags: Flags, said: str, tmp_path: Path) -> None:
    """The command line that it will be started with can be checked as it is."""
    code, text = _check(_written(tmp_path), flags=flags)
    assert code == 1
    assert f"exporter.yaml: {said}" in text


def test_of_a_shard_only_its_targets_are_estimated(tmp_path: Path) -> None:
    """All shards together have each target once."""
    names = [f"t{number}" for number in range(9)]
    targets = "\n".join(f"- {{name: {name}, region: r}}" for name in names)
    path = _written(tmp_path, f"targets:\n{targets}\n")
    estimated = list[str]()
    for index in range(3):
        code, text = _check(path, estimate=True, flags=Flags(shard=(index, 3)))
        own = re.findall(r"^  (t[0-9]): .* series", text, re.MULTILINE)
        assert (code, text.splitlines()[0]) == (
            0,
            f"{path}: valid, {len(own)} of its 9 targets in shard {index}/3",
        )
        estimated += own
    assert sorted(estimated) == names


def test_a_port_in_use_is_a_warning(tmp_path: Path) -> None:
    """The exporter that runs has it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, text = _check(_written(tmp_path), flags=Flags([address]))
    assert code == 0
    assert f"exporter.yaml: warning: --web.listen-address {address}: address already in use" in text


def _proxied(tmp_path: Path, **environ: str) -> tuple[int, str]:
    path = _written(tmp_path)
    code, text = _check(path, environ={**KEYS, **environ})
    return code, text.replace(f"{path}: ", "")


def test_the_usual_exceptions_of_a_desktop_are_valid(tmp_path: Path) -> None:
    """NO_PROXY may hold ranges of addresses."""
    environ = {"NO_PROXY": "localhost,127.0.0.0/8,::1/128", "HTTPS_PROXY": "http://proxy:3128"}
    assert _proxied(tmp_path, **environ) == (0, "valid, 1 target\n")


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"HTTPS_PROXY": "ftp://u:SECRET@x"}, "HTTPS_PROXY must begin with http://, https:// or socks5://"),
        ({"SSL_CERT_FILE": "/nonexistent"}, "SSL_CERT_FILE cannot be used: No such file or directory"),
    ],
    ids=["proxy", "authorities"],
)
def test_what_the_network_cannot_use_is_a_problem(
    environ: dict[str, str], message: str, tmp_path: Path
) -> None:
    """The variable at fault is named once, whatever the number of endpoints, and no secret is shown."""
    code, text = _proxied(tmp_path, **environ)
    assert (code, text.count("\n")) == (1, 1)
    assert f"the environment variable {message}" in text
    assert "SECRET" not in text


def test_what_may_be_a_mistake_of_the_network_is_a_warning(tmp_path: Path) -> None:
    """It is valid all the same."""
    code, text = _proxied(tmp_path, HTTP_PROXY="http://proxy:3128")
    assert code == 0
    assert text.startswith("warning: the environment variable HTTP_PROXY is not used")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        pytest.param(1, "", id="one"),
        pytest.param(
            60, "a0 and 59 more, which share credentials: 264.0 (rate_limit allows 300)", id="enough"
        ),
        pytest.param(
            200,
            "warning: a0 and 199 more, which share credentials: 880.0, and rate_limit allows 300: polls will"
            " be late; raise poll.interval, or rate_limit as far as your quota goes",
            id="too-many",
        ),
    ],
)
def test_the_estimate_adds_up_what_shares_a_limit(targets: int, expected: str, tmp_path: Path) -> None:
    """``rate_limit`` belongs to the credentials, not to each of their targets."""
    path = tmp_path / "exporter.yaml"
    path.write_text("targets:\n" + "".join(f"  - {{name: a{n}, region: r}}\n" for n in range(targets)))
    code, text = _check(path, estimate=True)
    found = [line.strip() for line in text.splitlines() if "share credentials" in line]
    assert (code, found) == (0, [expected] if expected else [])
