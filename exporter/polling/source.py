"""What polling needs of the cloud client: one page of jobs at a time, and the API's time.

Protocols only; ``exporter/cloud/client.py`` fits them, and so do the stand-ins of tests.
"""

from __future__ import annotations

from typing import Protocol

from exporter.ledger import JobsQuery, Page


class SourceClock(Protocol):
    """The API's time, in milliseconds since 1970, learned from its answers."""

    def now_ms(self) -> int | None:
        """A time that is surely not after now; ``None`` before two usable answers."""

    def latest_ms(self) -> int | None:
        """A time that is surely not before now."""

    def furthest_ms(self) -> int | None:
        """The latest time in any of the last answers, believed or not."""

    def note_passed(self, ms: int) -> None:
        """The API's clock has passed this time: an earlier run found that."""

    @property
    def on_our_clock(self) -> bool:
        """Does our own clock stand in for a ``Date`` that answers lack?"""

    def use_our_clock(self) -> None:
        """Let it, until an answer has one."""

    def undecided(self, tolerance: float) -> bool:
        """Could further answers change much, as its clock and ours differ by more than so many seconds?"""

    def skew(self, wall: float) -> float | None:
        """API clock minus ``wall``, in seconds."""


class JobSource(Protocol):
    """Where pages come from. Raises ApiError or CredentialsError after its own retries."""

    @property
    def clock(self) -> SourceClock: ...

    @property
    def project_id(self) -> str | None: ...

    async def list_jobs(self, query: JobsQuery, *, deadline: float) -> Page: ...
