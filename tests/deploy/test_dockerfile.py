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
    assert len(bases) == 2
    assert re.fullmatch(r"python:3\.\d+-slim", bases[0])
    assert bases[0] == bases[1]


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
