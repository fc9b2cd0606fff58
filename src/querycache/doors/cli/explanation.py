"""An entry explained, for people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import msgspec
from rich.text import Text

from querycache.doors.cli.render import size, span
from querycache.doors.cli.screen import line

if TYPE_CHECKING:
    from querycache.cache.examining import Found
    from querycache.usecases.explain_key import Explained

_COLOURS = {"fresh": "green", "stale": "yellow", "expired": "red", "invalidated": "red"}


def as_text(found: Explained, now: float) -> Text:
    """The same for people; `now` in wall seconds."""
    text = Text(line(found.key), "bold")
    text.append(f"  ({found.kind})\n", "dim")
    text.append("L1  ")
    text.append_text(_told(found.entry.l1, "not in this process, which is new"))
    text.append("\nL2  ")
    text.append_text(_told(found.entry.l2, found.entry.trouble or "not there"))
    if found.entry.l2 is not None and found.entry.trouble:
        text.append(f"\n    {line(found.entry.trouble)}", "yellow")
    text.append(
        "\n\nlast events\n" if found.events else "\n\nno living process tells of it", "dim"
    )
    for at, who, event in found.events:
        fields = cast("dict[str, object]", msgspec.to_builtins(event))
        name = fields.pop("type")
        fields.pop("key", None)
        told = ", ".join(f"{field} {_plain(value)}" for field, value in fields.items() if value)
        when = datetime.fromtimestamp(at, UTC).astimezone().strftime("%H:%M:%S")
        text.append(f"  {when} ({span(max(0.0, now - at))} ago)  ", "dim")
        text.append(f"{line(who)}  ")
        text.append(f"{name}", "bold")
        text.append(f"  {line(told)}\n" if told else "\n")
    text.rstrip()
    return text


def _told(found: Found | None, otherwise: str) -> Text:
    if found is None:
        return Text(line(otherwise), "dim")
    text = Text()
    text.append(found.verdict, f"bold {_COLOURS[found.verdict]}")
    text.append(f", {size(found.bytes)}, {span(max(0.0, found.age_s))} old")
    if found.usable_s > 0.0:
        text.append(f", usable for {span(found.usable_s)}")
    text.append(f"; its load took {span(found.load_s)}")
    for tag in found.tags:
        moved = tag.now != tag.at_birth
        text.append(f"\n    depends on {line(tag.tag)}", "dim")
        text.append(", which was invalidated since" if moved else "", "red")
    return text


def _plain(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
