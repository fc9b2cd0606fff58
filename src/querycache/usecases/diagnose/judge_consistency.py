"""What processes say of truth: do the tiers agree, does news arrive, does anybody watch, do stored
bytes open. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from shlex import quote

from querycache.ports.findings import Finding
from querycache.usecases.diagnose.figures import Compared, Indexed, Process, Thresholds
from querycache.usecases.diagnose.names import finding

_NAMED = 3
_DAMAGE = frozenset(
    {
        "bad_magic",
        "bad_header",
        "truncated",
        "bad_checksum",
        "bad_body",
        "wrong_key",
        "bad_seal",
    }
)
_KEYS = frozenset({"unknown_key", "sealed"})


def coherency(compared: Compared) -> list[Finding]:
    """What L1 held and L2 holds otherwise."""
    differing = {how: n for how, n in compared.differences.items() if how != "unreadable" and n}
    if not differing:
        return []
    ways = ", ".join(f"{count:,} {how}" for how, count in sorted(differing.items()))
    return [
        finding(
            "coherency.mismatch",
            f"of {compared.entries:,} entries of L1 that were compared, L2 held {ways}:"
            f" {', '.join(compared.keys[:_NAMED])}; they were dropped from L1",
            "querycache coherency  # compares again; who wrote past the cache:"
            " querycache explain KEY",
        )
    ]


def lag(processes: Sequence[Process], thresholds: Thresholds) -> list[Finding]:
    """Processes that hear of changes late."""
    found: list[Finding] = []
    for one in processes:
        late = [(one.lag_ms, "an invalidation", "querycache doctor  # and look at latency.high")]
        late += [(w.lag_ms_p50, f"a change in {w.root or w.project}", _BUSY) for w in one.watching]
        for took, what, remedy in late:
            if took is not None and took > thresholds.lag_ms:
                told = f"{one.who}: {what} took {took:,.0f} ms to take effect; more than"
                told += f" {thresholds.lag_ms:g} ms is late"
                found.append(finding("invalidation.lag", told, remedy))
    return found


_BUSY = "querycache projects  # how large it is; .gitignore keeps files out that nobody searches"


def watchers(processes: Sequence[Process]) -> list[Finding]:
    """Projects that living processes are to watch, and none does."""
    running = [one for one in processes if not one.stopped]
    watched = {w.root for one in running for w in one.watching if w.watching and w.alive}
    found: list[Finding] = []
    told: set[str] = set()
    for one in running:
        for project in one.watching:
            healthy = project.root in watched and not project.error
            if healthy or project.root in told:
                continue
            told.add(project.root)
            why = project.error or "nobody watches it"
            found.append(
                finding(
                    "watcher.dead",
                    f"{one.who}: changes under {project.root} may be missed: {why}",
                    f"restart it: kill {one.who.split()[-1]}; querycache serve"
                    f" {quote(project.root)}"
                    "  # where inotify has run out: sysctl fs.inotify.max_user_watches=524288",
                )
            )
    return found


def stale(projects: Sequence[Indexed], processes: Sequence[Process]) -> list[Finding]:
    """Projects that someone keeps up to date, and that are not. Nobody's are brought up to date
    by the next search.
    """
    stopped = [one.who for one in processes if one.stopped]
    by = f"; {', '.join(stopped)} is stopped" if stopped else ""
    remedy = "querycache index {root}"
    if stopped:
        remedy = f"kill -CONT {stopped[0].split()[-1]}  # or end it: kill -KILL"
    return [
        finding(
            "index.stale",
            f"{_files(one.stale_files)} in {one.name} ({one.root}) from its index, which a process"
            f" keeps up to date{by}",
            remedy.format(root=quote(one.root)),
        )
        for one in projects
        if one.stale_files and one.held
    ]


def _files(count: int) -> str:
    return "1 file differs" if count == 1 else f"{count:,} files differ"


def damage(processes: Sequence[Process], compared: Compared) -> list[Finding]:
    """Stored entries that did not open: changed, or sealed with a key that is not here."""
    reasons: Counter[str] = Counter()
    for one in processes:
        reasons.update(one.damaged)
    keyless = sum(count for reason, count in reasons.items() if reason in _KEYS)
    broken = {reason: count for reason, count in reasons.items() if reason in _DAMAGE and count}
    unreadable = compared.differences.get("unreadable", 0)
    found: list[Finding] = []
    if keyless:
        found.append(
            finding(
                "crypto.unknown_key",
                f"{keyless:,} reads met entries that are sealed with a key that is not here",
                "querycache key list  # get the key that is missing, or:"
                " querycache clean embedding search project file",
            )
        )
    if broken or (unreadable and not keyless):
        ways = ", ".join(f"{count:,} {reason}" for reason, count in sorted(broken.items()))
        met = f"reads met entries whose bytes were changed ({ways})" if ways else ""
        also = f"{unreadable:,} entries that L1 held don't open in L2" if unreadable else ""
        found.append(
            finding(
                "crypto.tampered",
                "; ".join(filter(None, (met, also))) + "; none was served",
                "querycache clean embedding search project file  # and who may write there:"
                " redis-cli CLIENT LIST, ls -l $QUERYCACHE_HOME/l2",
            )
        )
    return found
