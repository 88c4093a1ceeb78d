"""What the tests of the web share: certificates of one authority, made once."""

from __future__ import annotations

import pytest

from testkit.certificates import Authority, Pair
from tests.conftest import Tool


@pytest.fixture(scope="session")
def authority(tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tool("openssl"), tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def server_pair(authority: Authority) -> Pair:
    """For the addresses of this machine."""
    return authority.issue("server", "DNS:localhost,IP:127.0.0.1,IP:::1")
