"""The tool of the doctor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

from mcp_types import CallToolResult
from pydantic import BaseModel

from querycache.doors.mcp_server.answers import answer, read

if TYPE_CHECKING:
    from querycache.assembly.app import App


class Finding(BaseModel):
    name: str
    severity: str
    evidence: str
    remedy: str


class Diagnosis(BaseModel):
    well: bool
    findings: list[Finding]
    checks: list[str]
    took_ms: float


class DoctorTools:
    """The tools, over an App that may not be there yet."""

    def __init__(self, app: Callable[[], Awaitable[App]]) -> None:
        self._app = app

    async def cache_doctor(self) -> Annotated[CallToolResult, Diagnosis]:
        """Find out what is wrong with the cache: Redis, TLS, latency, hit rate, memory, stale
        data, encryption, access, settings. Each finding comes with evidence and a remedy. Takes a
        few seconds.
        """
        found = await (await self._app()).diagnose()
        return answer(
            Diagnosis(
                well=found.well,
                findings=[read(Finding, one) for one in found.findings],
                checks=[check.name for check in found.checks],
                took_ms=found.took_ms,
            )
        )
