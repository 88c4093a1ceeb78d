"""The configuration: what is accepted, the exact words for what is not, and no secret in any of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from exporter.config import (
    AgencyAuth,
    AkskAuth,
    Config,
    DefaultChain,
    FailMsgClass,
    Filters,
    MetricsConfig,
    PasswordAuth,
    PollConfig,
    Secret,
    StorageConfig,
    TargetConfig,
    TokenAuth,
    inline_secrets,
    load_config,
    read_secret,
)
from exporter.config.keys import keys_of
from exporter.config.model import AUTH_METHODS
from exporter.config.values import SecretType
from exporter.errors import ConfigError, CredentialsError
from tests.conftest import Golden
from tests.paths import ROOT, TESTS

BAD = TESTS / "config" / "bad"
SAMPLE = ROOT / "exporter.yaml"
TARGET = "targets:\n  - name: production\n    region: cn-north-4\n"
FULL = """
storage:
  url: sqlite:////var/lib/账/books.db
  lease: 20s
  retention: 7d
poll: {interval: 500ms1s, timeout: 1m30s, window: 2h, overlap: 10m, max_job_age: 2d12h, max_catch_up: 1d}
metrics:
  text_length_buckets: [10, 0x14, 1_000]
  duration_buckets: [500ms, 1s, 1m1s]
  max_label_sets: 7
  created_timestamps: yes
fail_msg_classes:
  - {class: brand_voice, match: '(?i)brand voice'}
  - {class: brand_voice, match: 品牌}
builtin_fail_msg_classes: false
targets:
  - name: 生产
    region: cn-north-4
    endpoint: HTTPS://Proxy.Example.com:8443/
    iam_endpoint: http://127.0.0.1:9/
    project_id: "00000000000000000000000000000001"
    app_user_id: user 1
    auth: {aksk: {access_key: AK, secret_key: SK, security_token: ST}}
    filters: {job_type: ASYNC_JOB, tts_service_enum: TTS_LLM, business_type: X.1}
    rate_limit: 2
    trust_count: false
    time_filters: off
    time_zone: +10:00
    time_format: unix_ms
  - {name: token, region: eu-west-101, auth: {token: {token: tok3n}}, trust_count: "true"}
  - {name: password, region: r, auth: {password: {domain: 账号, username: u, password: a b}}}
  - {name: agency, region: r, auth: {agency: }, filters: }
""".replace("500ms1s", "1s500ms")


def _load(folder: Path, text: str, **options: Any) -> Config:
    path = folder / "exporter.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, **options)


def _problems(folder: Path, text: str, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        _load(folder, text, **options)
    return str(caught.value).replace(f"{folder}/", "")


SECTIONS: dict[str, type[msgspec.Struct]] = {
    "the file": Config,
    "poll": PollConfig,
    "storage": StorageConfig,
    "aksk": AkskAuth,
}


def without_lists(text: str) -> str:
    """The name of a section in place of all its keys, so that no golden file changes with a new key."""
    for name, struct in SECTIONS.items():
        text = text.replace(f"known here: {', '.join(names(struct))}\n", f"known here: <keys of {name}>\n")
    return text


def names(struct: type[msgspec.Struct]) -> Iterator[str]:
    """Its keys, secrets with their twins."""
    for key in keys_of(struct):
        yield key.name
        if isinstance(key.type, SecretType):
            yield f"{key.name}_file"


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(BAD.glob("*.yaml")), ids=lambda path: path.stem)
def test_bad_file(path: Path, golden: Golden) -> None:
    """Each bad file is refused in exactly the expected words, with file, line and key path."""
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    found = without_lists(f"{caught.value}\n").replace(f"{BAD}/", "").replace(str(BAD), "FOLDER")
    golden(path.with_suffix(".expected"), found)
    assert "s3cr3t" not in found


def test_every_expectation_belongs_to_a_file() -> None:
    """No expectation is left behind by a file that is gone."""
    assert {path.stem for path in BAD.glob("*.expected")} == {path.stem for path in BAD.glob("*.yaml")}


def test_full_file(tmp_path: Path) -> None:
    """Every key arrives where it belongs, in seconds, absolute paths and lower-case origins."""
    config = _load(tmp_path, FULL)
    assert config.storage == StorageConfig(
        url="sqlite:////var/lib/账/books.db",
        lease=20.0,
        retention=7 * 86400.0,
    )
    assert config.storage.sqlite_file == Path("/var/lib/账/books.db")
    assert config.poll == PollConfig(
        interval=1.5, timeout=90.0, window=7200.0, overlap=600.0, max_job_age=216000.0, max_catch_up=86400.0
    )
    assert config.metrics == MetricsConfig(
        text_length_buckets=(10, 20, 1000),
        duration_buckets=(0.5, 1.0, 61.0),
        max_label_sets=7,
        created_timestamps=True,
    )
    assert config.fail_msg_classes == (
        FailMsgClass("brand_voice", "(?i)brand voice"),
        FailMsgClass("brand_voice", "品牌"),
    )
    assert config.builtin_fail_msg_classes is False
    assert config.targets[0] == TargetConfig(
        name="生产",
        region="cn-north-4",
        endpoint="https://proxy.example.com:8443",
        iam_endpoint="http://127.0.0.1:9",
        project_id="00000000000000000000000000000001",
        app_user_id="user 1",
        auth=AkskAuth(Secret("AK"), Secret("SK"), Secret("ST")),
        filters=Filters("ASYNC_JOB", "TTS_LLM", "X.1"),
        rate_limit=2.0,
        trust_count="false",
        time_filters=False,
        time_zone="+10:00",
        time_format="unix_ms",
    )
    assert config.targets[1].auth == TokenAuth(Secret("tok3n"))
    assert config.targets[2].auth == PasswordAuth("账号", "u", Secret("a b"))
    assert config.targets[3].auth == AgencyAuth()
    assert [target.trust_count for target in config.targets] == ["false", "true", "auto", "auto"]


def test_defaults(tmp_path: Path) -> None:
    """A name and a region are enough: everything else has a default, and the store lies beside the file."""
    config = _load(tmp_path, TARGET)
    assert config == Config(
        storage=StorageConfig(url=f"sqlite:///{tmp_path}/metastudio-tts-exporter.db"),
        targets=(
            TargetConfig(
                name="production",
                region="cn-north-4",
                endpoint="https://metastudio.cn-north-4.myhuaweicloud.com",
                iam_endpoint="https://iam.cn-north-4.myhuaweicloud.com",
                auth=DefaultChain(),
            ),
        ),
    )
    assert config.storage.sqlite_file == tmp_path / "metastudio-tts-exporter.db"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://",
        "postgres:///books",
        "postgresql://exporter@db.example.com:5433/books?sslmode=verify-full&sslrootcert=/etc/ca.pem",
        "postgresql://exporter@one:5432,two:5433/books?target_session_attrs=any",
        "postgresql://%65xporter@[::1]/books",
        "postgresql:///books?host=/run/postgresql",
    ],
)
def test_database_urls_stay_as_they_are(tmp_path: Path, url: str) -> None:
    """As libpq has them; the password is read from its file when it is needed."""
    (tmp_path / "password").write_text("one-word\n")
    config = _load(tmp_path, f"storage: {{url: '{url}', password_file: password}}\n{TARGET}")
    assert config.storage.url == url
    assert config.storage.password == tmp_path / "password"
    assert not config.storage.in_file


@pytest.mark.parametrize("section", ["storage", "poll", "metrics", "fail_msg_classes"])
def test_section_with_everything_commented_out(section: str, tmp_path: Path) -> None:
    """A section left empty means its defaults."""
    assert _load(tmp_path, f"{section}:\n{TARGET}") == _load(tmp_path, TARGET)


def test_sample_loads() -> None:
    """The sample that we ship is valid as it stands, and its values are the defaults."""
    sample = load_config(SAMPLE)
    assert (sample.poll, sample.metrics) == (PollConfig(), MetricsConfig())
    assert sample.storage == StorageConfig(url=f"sqlite:///{SAMPLE.parent}/metastudio-tts-exporter.db")


def test_sample_names_every_key() -> None:
    """No key is missing from the sample."""
    text = SAMPLE.read_text(encoding="utf-8")
    missing = [key for key in _keys() if not re.search(rf"^[\s#-]*({key}:)|[ ]{key}:", text, re.MULTILINE)]
    assert missing == [], "add these keys to exporter.yaml, each with a comment"


def _keys() -> Iterator[str]:
    """Every key as the types know it."""
    for struct in (Config, StorageConfig, PollConfig, MetricsConfig, FailMsgClass, TargetConfig, Filters):
        yield from names(struct)
    for name, method in AUTH_METHODS.items():
        yield from (name, *names(method))


def test_sample_suggestions_are_valid(tmp_path: Path) -> None:
    """What the sample offers in comments works when the comment sign is taken away."""
    text = re.sub(
        r"^(\s+)# (\s*[a-z_]+:.*)$", r"\1\2", SAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    text = text.replace("url: sqlite", "# url: sqlite")
    (tmp_path / "secrets").mkdir()
    for name in re.findall(r"secrets/(\S+)", text):
        (tmp_path / "secrets" / name).write_text("made-up")
    line = text[: text.index("    auth:")].count("\n") + 1
    assert _problems(tmp_path, text) == (
        f"exporter.yaml:{line}: targets[0].auth: gives aksk and token and password and agency: keep one"
    )


@pytest.mark.parametrize(
    ("key", "least", "less"),
    [
        ("storage.lease", "1s", "999ms"),
        ("storage.retention", "1h", "59m59s"),
        ("poll.interval", "1s", "999ms"),
        ("poll.timeout", "1s", "999ms"),
        ("poll.window", "1m", "59s"),
        ("poll.overlap", "5s", "4999ms"),
        ("poll.max_job_age", "1m", "59s"),
        ("poll.max_catch_up", "10s", "9999ms"),
    ],
)
def test_the_least_value_of_a_duration(key: str, least: str, less: str, tmp_path: Path) -> None:
    """A little less is refused with that value; itself at most because another key does not go with it."""
    section, _, name = key.partition(".")

    def told(value: str) -> str:
        try:
            _load(tmp_path, f"{TARGET}{section}: {{{name}: {value}}}\n")
        except ConfigError as error:
            return str(error)
        return ""

    words = f"{key}: must be from {least} to "
    assert words in told(less)
    assert words not in told(least)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda path: None, "cannot be read: No such file or directory", id="missing"),
        pytest.param(lambda path: path.mkdir(), "cannot be read: Is a directory", id="directory"),
        pytest.param(
            lambda path: path.symlink_to(path), "cannot be read: Too many levels of symbolic links", id="loop"
        ),
        pytest.param(
            lambda path: path.write_bytes(b"#" * (1024 * 1024 + 1)), "is larger than 1024 KiB", id="too large"
        ),
    ],
)
def test_unreadable_file(make: Any, message: str, tmp_path: Path) -> None:
    """A file that cannot be read is one line, too."""
    path = tmp_path / "exporter.yaml"
    make(path)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value) == f"{path}: {message}"


@pytest.mark.parametrize("style", ["|", ">", "|+", ">+"], ids=["literal", "folded", "kept", "folded kept"])
def test_a_pattern_in_a_block_has_no_line_break(style: str, tmp_path: Path) -> None:
    """Those at the end, which nobody means and which would match nothing."""
    path = tmp_path / "exporter.yaml"
    path.write_text(f"fail_msg_classes:\n- class: a\n  match: {style}\n    quota\n\n\n{TARGET}")
    assert load_config(path).fail_msg_classes == (FailMsgClass("a", "quota"),)


def test_byte_order_mark(tmp_path: Path) -> None:
    """A byte order mark, as some editors write it, is no mistake."""
    assert _load(tmp_path, "\ufeff" + TARGET).targets[0].name == "production"


def test_anchors_and_merges(tmp_path: Path) -> None:
    """Targets may share credentials and settings by alias; what is nearer wins over what is merged in."""
    text = """
targets:
  - &base {name: a, region: cn-north-4, rate_limit: 2, auth: &auth {aksk: {access_key: A, secret_key: S}}}
  - {<<: *base, name: b, rate_limit: 3}
  - {<<: [{rate_limit: 4}, *base], name: c}
  - {name: d, region: cn-east-3, auth: *auth}
"""
    targets = _load(tmp_path, text).targets
    assert [(target.name, target.rate_limit) for target in targets] == [
        ("a", 2.0), ("b", 3.0), ("c", 4.0), ("d", 5.0),
    ]  # fmt: skip
    assert len({target.auth for target in targets}) == 1


@pytest.mark.parametrize(
    ("region", "endpoint"),
    [
        ("ap-southeast-3", "https://iam.ap-southeast-3.myhuaweicloud.com"),
        ("eu-west-101", "https://iam.myhuaweicloud.com"),
    ],
    ids=["own", "global"],
)
def test_iam_endpoint_follows_region(region: str, endpoint: str, tmp_path: Path) -> None:
    """Regions that IAM does not serve under their own name use the global one."""
    target = _load(tmp_path, TARGET.replace("cn-north-4", region)).targets[0]
    assert target.iam_endpoint == endpoint
    assert target.endpoint == f"https://metastudio.{region}.myhuaweicloud.com"


def test_iam_endpoint_from_environment(tmp_path: Path) -> None:
    """The SDK's variable overrides the table, the file overrides the variable, a wrong one is refused."""
    environ = {"HUAWEICLOUD_SDK_IAM_ENDPOINT": "https://iam.example.com/"}
    text = f"{TARGET}  - {{name: b, region: r, iam_endpoint: 'https://other.example.com'}}\n"
    assert [target.iam_endpoint for target in _load(tmp_path, text, environ=environ).targets] == [
        "https://iam.example.com",
        "https://other.example.com",
    ]
    environ = {"HUAWEICLOUD_SDK_IAM_ENDPOINT": "http://user:s3cr3t@iam.example.com"}
    assert _problems(tmp_path, text, environ=environ) == (
        "exporter.yaml: the environment variable HUAWEICLOUD_SDK_IAM_ENDPOINT must not hold a user name or"
        " password: credentials belong under auth"
    )


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.10", "[::1]"])
def test_plain_http_to_loopback(host: str, tmp_path: Path) -> None:
    """http:// is for this machine: simulators and local proxies."""
    target = _load(tmp_path, f"{TARGET}    endpoint: http://{host}:8080\n").targets[0]
    assert target.endpoint == f"http://{host}:8080"


@pytest.mark.parametrize(
    "zone", ["UTC", "Asia/Shanghai", "+08:00", "+10:00", "-05:30", "+14:00", '"+08:00"', "Etc/GMT-8"]
)
def test_time_zones(zone: str, tmp_path: Path) -> None:
    """Names and offsets are accepted, also the offset that YAML would read as a number to the base of 60."""
    assert _load(tmp_path, f"{TARGET}    time_zone: {zone}\n").targets[0].time_zone == zone.strip('"')


@pytest.mark.parametrize(
    ("url", "file"),
    [("sqlite:///state/a b.db", "{folder}/state/a b.db"), ("sqlite:////var/lib/a.db", "/var/lib/a.db")],
    ids=["relative", "absolute"],
)
def test_sqlite_urls(url: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative store lies beside the configuration, wherever the program was started."""
    monkeypatch.chdir(tmp_path.parent)
    (tmp_path / "exporter.yaml").write_text(f"storage: {{url: '{url}'}}\n{TARGET}")
    storage = load_config(Path(tmp_path.name) / "exporter.yaml").storage
    assert str(storage.sqlite_file) == file.format(folder=tmp_path)
    assert storage.url == f"sqlite:///{storage.sqlite_file}"


def test_secret_files_are_checked_now_and_read_later(tmp_path: Path) -> None:
    """The path is kept, relative to the configuration, so that a rotated secret is seen; white space goes."""
    text = TARGET + "    auth: {aksk: {access_key_file: ak, secret_key_file: sk}}\n"
    (tmp_path / "ak").write_text("\ufeff first \r\n", encoding="utf-8")
    (tmp_path / "sk").write_text("secret\n")
    auth = _load(tmp_path, text).targets[0].auth
    assert auth == AkskAuth(tmp_path / "ak", tmp_path / "sk")
    assert isinstance(auth, AkskAuth)
    assert read_secret(auth.access_key) == "first"
    (tmp_path / "ak").write_text("second")
    assert read_secret(auth.access_key) == "second"
    (tmp_path / "ak").unlink()
    with pytest.raises(CredentialsError) as caught:
        read_secret(auth.access_key)
    assert str(caught.value) == f"{tmp_path}/ak cannot be read: No such file or directory"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param("x" * (64 * 1024 + 1), "is larger than 64 KiB", id="large"),
        pytest.param("a\x00b", "must be one word of printable ASCII (it is sent in a header)", id="nul"),
    ],
)
def test_unusable_secret_file(content: str, reason: str, tmp_path: Path) -> None:
    """A secret file that could not be sent is refused at the start, without a word of its content."""
    (tmp_path / "token").write_text(content)
    assert _problems(tmp_path, TARGET + "    auth: {token: {token_file: token}}\n") == (
        f"exporter.yaml:4: targets[0].auth.token.token_file: the file {reason} (looked for from {tmp_path})"
    )


@pytest.mark.parametrize(
    "sample", ["CHANGEME", "change-me", "xxxxxxxx", "****", "your-access-key", "YOUR_SK_HERE", "replace_me"]
)
def test_a_secret_as_examples_have_it_is_refused(tmp_path: Path, sample: str) -> None:
    """The cloud would refuse it, and only after the start."""
    text = TARGET + f"    auth: {{aksk: {{access_key: AK, secret_key: '{sample}'}}}}\n"
    assert "secret_key: is what examples have in place of a secret" in _problems(tmp_path, text)


def test_secret_file_that_is_a_pipe(tmp_path: Path) -> None:
    """A pipe would block the start and could not be read again."""
    os.mkfifo(tmp_path / "token")
    assert "is not a regular file" in _problems(tmp_path, TARGET + "    auth: {token: {token_file: token}}\n")


def test_inline_secrets(tmp_path: Path) -> None:
    """Every secret in the file can be named for masking, and none shows in the configuration's own text."""
    config = _load(tmp_path, FULL)
    secrets = [secret.reveal() for secret in inline_secrets(config)]
    assert secrets == ["AK", "SK", "ST", "tok3n", "a b"]
    assert "tok3n" not in repr(config)
