"""What the living processes did with the cache, added up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.table import Table
from rich.text import Text

from querycache.doors.cli import screen
from querycache.doors.cli.render import agreement, cell, size, span, table
from querycache.doors.http_api import wire
from querycache.usecases.show_status import (
    KindCounts,
    Quantiles,
    Snapshot,
    Tiers,
    latencies,
    reasons,
    savings,
)

if TYPE_CHECKING:
    from querycache.assembly import App
    from querycache.observe.registry import Published

_REFRESH_S = 1.0
_SECOND_MS = 1000.0
_ANY_WIDTH = 1000
_QUANTILES = ("p50", "p95", "p99")
_REASONS = {"absent": "never asked before", "l2_down": "while L2 was down"}


class Stats(NamedTuple):
    """One look at all living processes: what each told, and how the tiers are."""

    told: list[tuple[Published, Snapshot]]
    tiers: Tiers
    now: float
    price: float = 0.0

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
            price=self.price,
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
        parts = (self._by_tier(), self._by_kind(), self._why_missed(), self._saved())
        spaced = [part for block in parts if block for part in (Text(), block)]
        return Group(self._who(), *spaced, self._agreement())

    def _who(self) -> Text:
        named = (
            f"{who.door} {who.pid}{f' on {who.host}' if who.host else ''}"
            f" (up {span(max(0.0, self.now - who.started))})"
            for who, _ in self.told
        )
        count = len(self.told)
        text = Text(f"{count} living process{'es' if count > 1 else ''}: ", "dim")
        text.append(", ".join(map(screen.line, named)), "dim")
        return text

    def _by_tier(self) -> _Figures:
        numbers = ("hits", "misses", "hit rate", "errors", "entries", "size", *_QUANTILES)
        made = _Figures("tier", *numbers)
        timed = latencies([kind for one in self.snapshots for kind in one.kinds.values()])
        l1, l2 = self.tiers.l1, self.tiers.l2
        filled = {
            "L1": (f"{l1.size:,}", size(l1.memory_usage_bytes)),
            "L2": (
                "-" if l2.entries is None else f"{l2.entries:,}",
                "-" if l2.bytes is None else size(l2.bytes),
            ),
        }
        rows = (("L1", l1, 0, timed.l1), ("L2", l2, l2.errors, timed.l2))
        for name, tier, errors, took in rows:
            if not tier.enabled:
                made.add(Text(name), ["-"] * len(numbers), "dim")
                continue
            rate = _rate(tier.hits, tier.misses)
            counts = (f"{tier.hits:,}", f"{tier.misses:,}", rate, f"{errors:,}")
            made.add(Text(name, "bold"), [*counts, *filled[name], *_quantiles(took)])
        return made

    def _why_missed(self) -> Text | None:
        """The misses by reason."""
        found = reasons(kind for one in self.snapshots for kind in one.kinds.values())
        told = ", ".join(f"{count:,} {_REASONS.get(name, name)}" for name, count in found.items())
        return Text.assemble(("misses: ", "bold"), screen.line(told)) if told else None

    def _saved(self) -> Text | None:
        """What was not sent to the embedding model."""
        saved = savings(self.snapshots, self.price)
        if not (saved.texts or saved.texts_sent):
            return None
        about = "about " if saved.tokens_estimated else ""
        told = (
            f"{saved.texts:,} of {saved.texts + saved.texts_sent:,} embeddings, {saved.calls:,}"
            f" calls, {about}{saved.tokens:,} tokens, {span(saved.ms / 1e3)}"
        )
        money = "" if saved.money is None else f", {saved.money:,.3g} by the price of a token"
        return Text.assemble(("saved:  ", "bold"), (told + money, "green"))

    def _agreement(self) -> Text:
        """What comparisons of the tiers found, what L2 was not told yet, and how far news lags."""
        l2 = self.tiers.l2
        return Text(agreement(l2.coherency, l2.pending, l2.lag_ms, self.now), "dim")

    def _by_kind(self) -> _Figures:
        numbers = ("L1 hits", "L2 hits", "misses", "hit rate", "writes", "loads", "load p95")
        made = _Figures("kind", *numbers, "time saved")
        for kind in sorted({kind for snapshot in self.snapshots for kind in snapshot.kinds}):
            counts = [snapshot.kinds.get(kind, KindCounts()) for snapshot in self.snapshots]
            l1, l2, misses, loads, sets = (
                sum(getattr(count, name) for count in counts)
                for name in ("l1_hits", "l2_hits", "misses", "loads", "sets")
            )
            saved = sum(count.saved_s for count in counts)
            idle = not (l1 or l2 or misses or sets)
            cells = (*(f"{n:,}" for n in (l1, l2, misses)), _rate(l1 + l2, misses))
            load = _time(latencies(counts).load.p95_ms)
            cells = (*cells, f"{sets:,}", f"{loads:,}", load, span(saved) if saved else "-")
            made.add(cell(kind, "" if idle else "bold"), cells, "dim" if idle else "")
        return made


class _Figures:
    """A table that gives up its last columns where the terminal is too narrow for all of them: a
    number that is cut is a wrong one.
    """

    def __init__(self, *columns: str) -> None:
        self._columns = columns
        self._rows: list[tuple[Text, Sequence[str], str]] = []

    def add(self, name: Text, cells: Sequence[str], style: str = "") -> None:
        """Adds a row."""
        self._rows.append((name, cells, style))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draws as many columns as fit."""
        whole = options.update(width=_ANY_WIDTH)
        shown = len(self._columns)
        while (
            shown > 1
            and console.measure(self._drawn(shown), options=whole).maximum > options.max_width
        ):
            shown -= 1
        yield self._drawn(shown)

    def _drawn(self, shown: int) -> Table:
        first, *numbers = self._columns[:shown]
        made = table(first, *numbers, numbers=numbers)
        for name, cells, style in self._rows:
            made.add_row(name, *cells[: shown - 1], style=style)
        return made


async def look(app: App) -> Stats:
    """What all living processes told; this one, which did nothing, is none of them."""
    told = await app.processes()
    health = await app.status.health()
    tiers = app.status.shaped([snapshot for _, snapshot in told], health)
    return Stats(told, tiers, app.clock.wall(), app.config.embedder.price)


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


def _quantiles(took: Quantiles) -> tuple[str, ...]:
    return tuple(_time(ms) for ms in (took.p50_ms, took.p95_ms, took.p99_ms))


def _time(ms: float | None) -> str:
    """A latency: three digits, and its unit."""
    if ms is None:
        return "-"
    for limit, unit, name in ((1.0, 1e-3, "us"), (_SECOND_MS, 1.0, "ms")):
        if ms < limit:
            return f"{ms / unit:.3g} {name}"
    return f"{ms / _SECOND_MS:.3g} s"


def _rate(hits: int, misses: int) -> str:
    return f"{hits / (hits + misses):.1%}" if hits + misses else "-"
