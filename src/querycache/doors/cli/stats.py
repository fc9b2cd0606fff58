"""What the living processes did with the cache, added up."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
from rich.console import Group
from rich.table import Table
from rich.text import Text

from querycache.doors.cli import screen
from querycache.doors.cli.render import cell, size, span, table
from querycache.doors.http_api import wire
from querycache.usecases.show_status import Health, KindCounts, Snapshot, TierStats, totals

if TYPE_CHECKING:
    from querycache.assembly import App
    from querycache.observe.registry import Published

_REFRESH_S = 1.0


class Stats(NamedTuple):
    """One look at all living processes: what each told, and how L2 is."""

    told: list[tuple[Published, Snapshot]]
    tiers: tuple[TierStats, TierStats]
    health: Health
    now: float

    @property
    def snapshots(self) -> list[Snapshot]:
        return [snapshot for _, snapshot in self.told]

    def as_json(self) -> wire.Stats:
        """The answer of GET /stats/cache, over all processes: since the oldest of them began."""
        (l1, l2), health, whole = self.tiers, self.health, totals(self.snapshots)
        oldest = min((told.started for told, _ in self.told), default=self.now)
        l2_stats = wire.L2Stats(
            enabled=l2.enabled,
            hits=l2.hit_count,
            misses=l2.miss_count,
            hit_rate=l2.hit_rate,
            miss_rate=l2.miss_rate,
            total_operations=l2.total_operations,
            errors=l2.error_count,
            backend=health.l2_backend,
            connected=health.l2_connected,
            entries=health.l2_entries,
            bytes=health.l2_bytes,
            max_bytes=health.l2_max_bytes,
        )
        fields = whole | {
            "kinds": whole["by_kind"],
            "last_reset": oldest,
            "uptime_s": round(self.now - oldest, 3),
            "tiers": wire.Tiers(wire.l1_stats(l1, self._together()), l2_stats),
            "processes": [_process(*told) for told in self.told],
        }
        return msgspec.convert(fields, wire.Stats)

    def _together(self) -> Snapshot:
        """The memory of all of them."""
        policies = dict.fromkeys(snapshot.l1_policy for snapshot in self.snapshots)
        return Snapshot(
            kinds={},
            l1_size=sum(snapshot.l1_size for snapshot in self.snapshots),
            l1_max_size=sum(snapshot.l1_max_size for snapshot in self.snapshots),
            l1_bytes=sum(snapshot.l1_bytes for snapshot in self.snapshots),
            l1_max_bytes=sum(snapshot.l1_max_bytes for snapshot in self.snapshots),
            l1_evictions=sum(snapshot.l1_evictions for snapshot in self.snapshots),
            l1_policy=", ".join(policies),
        )

    def as_text(self) -> Group | Text:
        """The same for people."""
        if not self.told:
            return Text(
                "no querycache process is running: counts live as long as the process that made"
                " them\nstart one: querycache serve"
            )
        return Group(self._who(), Text(), self._by_tier(), Text(), self._by_kind())

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
        memory, health = self._together(), self.health
        entries, held = health.l2_entries, health.l2_bytes
        filled = {
            "L1": (f"{memory.l1_size:,}", size(memory.l1_bytes)),
            "L2": (
                "-" if entries is None else f"{entries:,}",
                "-" if held is None else size(held),
            ),
        }
        for name, tier in zip(("L1", "L2"), self.tiers, strict=True):
            if not tier.enabled:
                made.add_row(name, *["-"] * len(numbers), style="dim")
                continue
            rate = _rate(tier.hit_count, tier.miss_count)
            counts = (f"{tier.hit_count:,}", f"{tier.miss_count:,}", rate, f"{tier.error_count:,}")
            made.add_row(Text(name, "bold"), *counts, *filled[name])
        return made

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
    tiers = app.status.tiers([snapshot for _, snapshot in told])
    return Stats(told, tiers, await app.status.health(), app.clock.wall())


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


def _process(told: Published, did: Snapshot) -> wire.Process:
    counts = totals([did])
    fields = {
        "pid": told.pid,
        "door": told.door,
        "started": told.started,
        "published_at": told.published_at,
        "this": False,
        "l1_size": did.l1_size,
        "l1_bytes": did.l1_bytes,
    }
    return msgspec.convert(counts | fields, wire.Process)


def _rate(hits: int, misses: int) -> str:
    return f"{hits / (hits + misses):.1%}" if hits + misses else "-"
