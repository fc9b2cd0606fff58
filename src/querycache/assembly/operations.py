"""Operations: what watches over the cache, and what an operator does with it."""

from __future__ import annotations

from functools import cached_property

from querycache.assembly import upkeep
from querycache.assembly.alerting import Alerting
from querycache.assembly.cases import UseCases
from querycache.assembly.memory import MemoryWatch
from querycache.assembly.metering import Metering
from querycache.assembly.watching import Watching
from querycache.config import Config
from querycache.observe.audit import AuditLog, NoAudit
from querycache.ports.access import Audit
from querycache.usecases.back_up import BackedUp, BackUp
from querycache.usecases.clean_up import CleanUp
from querycache.usecases.control_access import ControlAccess
from querycache.usecases.diagnose import Diagnosis, Progress, unheard
from querycache.usecases.hold_sessions import HoldSessions
from querycache.usecases.restore import Restore


class Operations(UseCases):
    """The parts that operators need, each made when first used."""

    @cached_property
    def audit(self) -> AuditLog:
        return AuditLog(self.config.data_home / "audit.jsonl", self.clock)

    @cached_property
    def _access_audit(self) -> Audit:
        return self.audit if self.config.safety.access_logging else NoAudit()

    @cached_property
    def control_access(self) -> ControlAccess:
        from querycache.origins.grants import GrantFile

        return ControlAccess(GrantFile(self.config.data_home / "grants.json"), self._access_audit)

    @cached_property
    def hold_sessions(self) -> HoldSessions:
        timeout = self.config.safety.session_timeout_s
        return HoldSessions(self.clock, self._access_audit, timeout)

    @cached_property
    def back_up(self) -> BackUp:
        return upkeep.back_up(self)

    async def back_up_at_home(self) -> BackedUp:
        """A back-up in the folder `backups` of the home, named by the time. Raises as it does."""
        return await upkeep.back_up_at_home(self, self.back_up)

    @cached_property
    def restore(self) -> Restore:
        return upkeep.restore(self)

    @cached_property
    def clean_up(self) -> CleanUp:
        return upkeep.clean_up(self)

    @cached_property
    def metering(self) -> Metering:
        return Metering(self)

    @cached_property
    def memory(self) -> MemoryWatch:
        return MemoryWatch(self)

    @cached_property
    def watching(self) -> Watching:
        return Watching(self, self._observer)

    @cached_property
    def alerting(self) -> Alerting:
        return Alerting(self, lambda: self.memory.told().get("memory"))

    async def diagnose(
        self, *, redis_conf: str = "", config: Config | None = None, progress: Progress = unheard
    ) -> Diagnosis:
        """Runs every check of the doctor. `redis_conf`: a file to look at; `config`: settings to
        judge by, where the App has others. Never raises for what is wrong with the system.
        """
        from querycache.assembly.doctor import Doctor

        return await Doctor(self, config or self.config, redis_conf).diagnose()(progress)

    async def watch_over(self) -> None:
        """One turn, each second, of what watches over this process."""
        await self.memory.turn()
        await self.alerting.turn()
        await self.metering.turn()

    def told(self) -> dict[str, object]:
        """What other processes may read of this one besides its counts and events."""
        return {**self.memory.told(), **self.alerting.told(), "watching": self.watching.told()}

    def _troubles(self) -> list[str]:
        return [*super()._troubles(), *self.memory.problems(), *self.watching.troubles()]
