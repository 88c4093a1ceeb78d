"""The image's recipe. That it builds and runs is shown by ``make image-test``."""

from __future__ import annotations

import json
import re
import subprocess

from exporter.cli import DEFAULT_LISTEN
from tests.conftest import Tool
from tests.deploy.files import CONFIG, DOCKERFILE, ROOT, STATE, USER, instructions


def test_hadolint_finds_nothing(tool: Tool) -> None:
    """No warning of any level."""
    done = subprocess.run(
        [tool("hadolint"), "--no-color", DOCKERFILE], capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.decode(), done.stderr.decode()) == (0, "", "")


def test_every_stage_has_the_same_slim_base() -> None:
    """What is built in one runs in the other, and tests/image-test knows what to stand in for."""
    bases = [line.partition(" AS ")[0] for line in instructions("FROM")]
    assert bases == ["${BASE}", "${BASE}"]
    assert re.fullmatch(r"BASE=python:3\.\d+-slim", instructions("ARG")[0])


def test_only_what_is_locked_is_installed() -> None:
    """Each package by its hash; ours is built with a locked builder, and brings nothing along."""
    commands = " && ".join(instructions("RUN")).split(" && ")
    installs = [each.split() for each in commands if re.search(r"pip (install|wheel)", each)]
    assert [words[words.index("--requirement") + 1] for words in installs if "--require-hashes" in words] == [
        "requirements-build.lock",
        "requirements.lock",
    ]
    ours = [words for words in installs if "--require-hashes" not in words]
    assert [words[-1] for words in ours] == [".", "/opt/wheel/*.whl"]
    assert all("--no-deps" in words for words in ours)
    assert "--no-build-isolation" in ours[0]


def test_it_runs_without_privileges() -> None:
    """A user by number, so that Kubernetes can see that it is not root."""
    assert instructions("USER") == [f"{USER}:{USER}"]


def test_one_folder_is_written() -> None:
    """The volume is home, temporary folder and working folder at once."""
    assert instructions("VOLUME") == instructions("WORKDIR")[-1:] == [STATE]
    environment = " ".join(instructions("ENV"))
    assert f"HOME={STATE}" in environment
    assert f"TMPDIR={STATE}" in environment


def test_it_starts_and_asks_after_the_program() -> None:
    """Without a shell, and on the port that is the default."""
    assert json.loads(instructions("ENTRYPOINT")[0]) == ["metastudio-tts-exporter"]
    assert json.loads(instructions("CMD")[0]) == [f"--config.file={CONFIG}"]
    _, _, health = instructions("HEALTHCHECK")[0].partition(" CMD ")
    assert json.loads(health) == ["metastudio-tts-exporter", "healthcheck"]
    assert instructions("EXPOSE") == [DEFAULT_LISTEN.removeprefix(":")]


def test_the_build_is_given_what_it_copies_and_no_more() -> None:
    """.dockerignore lets in exactly the sources of COPY."""
    copied = {source for line in instructions("COPY") if "--from" not in line for source in line.split()[:-1]}
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == copied
    assert "*" in lines
