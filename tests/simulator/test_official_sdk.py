"""The official SDK's own client reads the simulator over a real connection: it is the judge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkmetastudio.v1 import MetaStudioClient, ShowTtsJobRequest

from exporter.simulator.api import build_app
from exporter.simulator.auth import ACCESS_KEY, SECRET_KEY
from exporter.simulator.server import serve_simulator
from exporter.simulator.simulation import PROJECT_ID, Simulation, new_simulation


def with_sdk(made: Simulation, work: Callable[[str], Any]) -> Any:
    """Serve, and do blocking work beside it."""

    async def run() -> Any:
        async with serve_simulator(build_app(made)) as address:
            return await asyncio.to_thread(work, address)

    return asyncio.run(run())


def sdk_client(address: str, sk: str = SECRET_KEY) -> Any:
    """The official client, signing."""
    credentials = BasicCredentials(ACCESS_KEY, sk, PROJECT_ID)
    return MetaStudioClient.new_builder().with_credentials(credentials).with_endpoint(address).build()


def test_the_sdk_reads_every_page() -> None:
    """With signed requests the SDK pages through the list and finds every job."""
    made = new_simulation(seed=11, rate=60.0, history=600.0, time_scale=0.0)  # or more jobs come meanwhile
    made.now()

    def read(address: str) -> list[Any]:
        client = sdk_client(address)
        records: list[Any] = []
        while True:
            request = ShowTtsJobRequest(limit=100, offset=len(records), create_since="2020-01-01T00:00:00Z")
            answer = client.show_tts_job(request)
            if not answer.data:
                assert answer.count == len(records)
                return records
            records += answer.data

    records = with_sdk(made, read)
    assert [record.job_id for record in records] == [job.job_id for job in made.world.listing][::-1]
    assert {record.job_type for record in records} >= {"ASYNC_JOB", "WEBSOCKET"}
    assert any(record.files[0].audio_file_url for record in records if record.job_state == "SUCCEED")


def test_the_sdk_filters() -> None:
    """Filters, ids and the app user set through the SDK arrive, with the signature intact."""
    made = new_simulation(seed=12, rate=120.0, history=600.0)
    wanted = next(job for job in reversed(made_jobs(made)) if job.job_type == "WEBSOCKET")

    def read(address: str) -> tuple[Any, Any]:
        client = sdk_client(address)
        by_type = client.show_tts_job(
            ShowTtsJobRequest(job_type="WEBSOCKET", tts_service_enum=wanted.tts_service_enum, limit=100)
        )
        by_id = client.show_tts_job(ShowTtsJobRequest(job_id=wanted.job_id, x_app_user_id="user 1"))
        return by_type.data, by_id.data

    by_type, by_id = with_sdk(made, read)
    labels = {(record.job_type, record.tts_service_enum) for record in by_type}
    assert labels == {("WEBSOCKET", wanted.tts_service_enum)}
    assert [record.job_id for record in by_id] == [wanted.job_id]


def made_jobs(made: Simulation) -> list[Any]:
    """The jobs listed now."""
    made.now()
    return made.world.listing


def test_the_sdk_is_refused_and_locked_out() -> None:
    """With a wrong key the SDK gets 401 APIG.0301; after five the right one is locked out, too."""
    made = new_simulation(history=60.0)

    def attempt(address: str) -> list[str]:
        texts = []
        for sk in ["wrong"] * 5 + [SECRET_KEY]:
            with pytest.raises(ClientRequestException) as refused:
                sdk_client(address, sk).show_tts_job(ShowTtsJobRequest())
            assert (refused.value.status_code, refused.value.error_code) == (401, "APIG.0301")
            texts.append(refused.value.error_msg.partition(": ")[2])
        return texts

    texts = with_sdk(made, attempt)
    assert texts == ["verify aksk signature fail"] * 5 + ["AK access failed to reach the limit,forbidden"]


def test_the_sdk_understands_illegal_parameters() -> None:
    """The SDK finds code, text and request id in a 400."""
    made = new_simulation(history=60.0)

    def attempt(address: str) -> Any:
        with pytest.raises(ClientRequestException) as refused:
            sdk_client(address).show_tts_job(ShowTtsJobRequest(limit=1000))
        return refused.value

    error = with_sdk(made, attempt)
    assert (error.status_code, error.error_code) == (400, "MSS.000000003")
    assert "limit" in error.error_msg
    assert len(error.request_id) == 32
