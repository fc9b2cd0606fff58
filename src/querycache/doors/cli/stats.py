"""What the living processes did with the cache, added up."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rich.console import Group
from rich.table import Table
from rich.text import Text

from querycache.doors.cli import screen
from querycache.doors.cli.render import agreement, cell, size, span, table
from querycache.doors.http_api import wire
from querycache.usecases.show_status import KindCounts, Snapshot, Tiers

if TYPE_CHECKING:
    from querycache.assembly import App
    from querycache.observe.registry import Published

_REFRESH_S = 1.0


class Stats(NamedTuple):
    """One look at all living processes: what each told, and how the tiers are."""

    told: list[tuple[Published, Snapshot]]
    tiers: Tiers
    now: float

    @property
    def snapshots(self) -> list[Snapshot]:
        return [snapshot for _, snapshot in self.told]

    def as_json(self) -> wire.Stats:
        """The answer of GET /stats/cache, over all processes: since the oldest of them began."""
        oldest = min((told.started for told, _ in self.told), default=self.now)
        return wire.stats(
            self.snapshots,
            self.tiers,
            [wire.process(*told, this=False) for told in self.told],
            since=oldest,
            uptime_s=round(self.now - oldest, 3),
        )

    def as_text(self) -> Group | Text:
        """The same for people."""
        if not self.told:
            return Text(
                "no querycache process is running: counts live as long as the process that made"
                " them\nstart one: querycache serve"
            )
        return Group(
            self._who(), Text(), self._by_tier(), self._agreement(), Text(), self._by_kind()
        )

    def _who(self) -> Text:
        named = (
            f"{who.door} {who.pid} (up {span(self.now - who.started)})" for who, _ in self.told
        )
        count = len(self.told)
        text = Text(f"{count} living process{'es' if count > 1 else ''}: ", "dim")
        text.append(", ".join(map(screen.line, named)), "dim")
        return text

    def _by_tier(self) -> Table:
        numbers = ("hits", "misses", "hit rate", "errors", "entries", "size")
        made = table("tier", *numbers, numbers=numbers)
        l1, l2 = self.tiers.l1, self.tiers.l2
        filled = {
            "L1": (f"{l1.size:,}", size(l1.memory_usage_bytes)),
            "L2": (
                "-" if l2.entries is None else f"{l2.entries:,}",
                "-" if l2.bytes is None else size(l2.bytes),
            ),
        }
        for name, tier, errors in (("L1", l1, 0), ("L2", l2, l2.errors)):
            if not tier.enabled:
                made.add_row(name, *["-"] * len(numbers), style="dim")
                continue
            rate = _rate(tier.hits, tier.misses)
            counts = (f"{tier.hits:,}", f"{tier.misses:,}", rate, f"{errors:,}")
            made.add_row(Text(name, "bold"), *counts, *filled[name])
        return made

    def _agreement(self) -> Text:
        """What comparisons of the tiers found, what L2 was not told yet, and how far news lags."""
        l2 = self.tiers.l2
        return Text(agreement(l2.coherency, l2.pending, l2.lag_ms, self.now), "dim")

    def _by_kind(self) -> Table:
        numbers = ("L1 hits", "L2 hits", "misses", "hit rate", "loads", "writes", "time saved")
        made = table("kind", *numbers, numbers=numbers)
        for kind in sorted({kind for snapshot in self.snapshots for kind in snapshot.kinds}):
            counts = [snapshot.kinds.get(kind, KindCounts()) for snapshot in self.snapshots]
            l1, l2, misses, loads, sets = (
                sum(getattr(count, name) for count in counts)
                for name in ("l1_hits", "l2_hits", "misses", "loads", "sets")
            )
            saved = sum(count.saved_s for count in counts)
            idle = not (l1 or l2 or misses or sets)
            cells = (*(f"{n:,}" for n in (l1, l2, misses)), _rate(l1 + l2, misses))
            cells = (*cells, f"{loads:,}", f"{sets:,}", span(saved) if saved else "-")
            made.add_row(cell(kind, "" if idle else "bold"), *cells, style="dim" if idle else "")
        return made


async def look(app: App) -> Stats:
    """What all living processes told; this one, which did nothing, is none of them."""
    told = await app.processes()
    health = await app.status.health()
    tiers = app.status.shaped([snapshot for _, snapshot in told], health)
    return Stats(told, tiers, app.clock.wall())


async def watched(app: App) -> None:
    """Shows the statistics until interrupted."""
    console = screen.out()
    if not console.is_terminal:
        while True:
            console.print((await look(app)).as_text())
            await app.clock.sleep(_REFRESH_S)
    from rich.live import Live

    with Live(console=console, auto_refresh=False, screen=True) as live:
        while True:
            live.update((await look(app)).as_text(), refresh=True)
            await app.clock.sleep(_REFRESH_S)


def _rate(hits: int, misses: int) -> str:
    return f"{hits / (hits + misses):.1%}" if hits + misses else "-"
