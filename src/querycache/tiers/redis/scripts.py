"""What is asked of the server: packed commands, and scripts of what must not be torn apart.

Design note. A told change is one script: nobody sees the entry changed and its slot's version not
moved, or the reverse. The rules that the scripts keep:

- All names of a script lie in one slot, so they work in a cluster too. The last one, the sequence
  number of the messages, is left out there.
- Versions and counters are random numbers of 63 bits, drawn by who moves them: each value is new
  for ever, also after the old one was evicted or lost, and no arithmetic of Lua rounds it.
- A server that is out of memory refuses a command that needs some only as the first write of a
  script. So a refused SET is followed by the deletion of what is no longer true, and after that
  the version still moves and the others are still told.
- Who tracks hears of a shadow name, set and deleted at once, which says who changed what. The
  entry itself would do for names under a tracked prefix, but the server's NOLOOP does not hold for
  what scripts write: a process could not tell its own echo from a stranger's change.
- Who can't track hears a message with a number: a missing one is a gap.
- Nothing is sent twice, unless the server did not know the script and so has not run it.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha1
from typing import Final, NamedTuple, TypeAlias, cast

import hiredis

from querycache.tiers.redis.link import Request

Word: TypeAlias = bytes | int

pack = cast("Callable[[tuple[bytes | str | int, ...]], bytes]", hiredis.pack_command)  # pyright: ignore[reportUnknownMemberType]  # its stub knows tuples of one only
"""A command as it travels: of words, bytes."""


class Script:
    """A Lua source, and the name under which a server keeps it."""

    def __init__(self, source: str) -> None:
        self.source = source.strip().encode()
        self.sha = sha1(self.source, usedforsecurity=False).hexdigest().encode()


class Call(NamedTuple):
    """A script with its names, all of one slot, and its arguments."""

    script: Script
    keys: tuple[bytes, ...]
    arguments: tuple[Word, ...]

    def request(self) -> Request:
        """As it is sent."""
        words = (b"EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.arguments)
        return Request(self.keys[0], pack(words))

    def in_full(self) -> Request:
        """As it is sent to a server that does not know the script."""
        words = (b"EVAL", self.script.source, len(self.keys), *self.keys, *self.arguments)
        return Request(self.keys[0], pack(words))


# KEYS of the first two: entry, version, shadow, sequence (on one node);
# ARGV: new version, channel, what the message says after its number, ...
_TELL: Final = """
if redis.pcall('SET', KEYS[2], ARGV[1]).err then redis.call('DEL', KEYS[2]) end
redis.call('SET', KEYS[3], '')
redis.call('DEL', KEYS[3])
if KEYS[4] then
  redis.pcall('PUBLISH', ARGV[2], redis.call('INCR', KEYS[4]) .. ARGV[3])
end
"""

STORE: Final = Script(f"""
local value, life, guard = ARGV[4], ARGV[5], ARGV[6]
if guard ~= '' and redis.call('GET', KEYS[2]) ~= guard then return 0 end
local kept
if life == '0' then
  redis.call('UNLINK', KEYS[1])
else
  kept = redis.pcall('SET', KEYS[1], value, 'PX', life)
  if kept.err then redis.call('UNLINK', KEYS[1]) end
end
{_TELL}
if kept and kept.err then return redis.error_reply(kept.err) end
return 1
""")
"""Stores an entry for so many ms (0: it is over already) if its guard holds. 1 stored, 0 refused;
the error of the SET, where the old entry was deleted instead.
"""

REMOVE: Final = Script(f"""
local held = redis.call('UNLINK', KEYS[1])
{_TELL}
return held
""")
"""Deletes an entry. How many there were."""

BUMP: Final = Script("""
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1])
if KEYS[2] then
  redis.pcall('PUBLISH', ARGV[2], redis.call('INCR', KEYS[2]) .. ARGV[3])
end
return 1
""")
"""Moves a counter to a new value. KEYS: counter, sequence (on one node). ARGV: value, channel,
what the message says after its number. Deleted first: then the new value is never refused.
"""

CREATE: Final = Script("""
local at = redis.call('GET', KEYS[1])
if at and #at <= 19 and string.match(at, '^%d+$') then return at end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]
""")
"""The number under a name, which is a new one where there was none."""

RENEW: Final = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
""")
"""Prolongs a lease by so many ms from now, if the token still holds it. Whether it does."""

RELEASE: Final = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
""")
"""Ends a lease, if the token still holds it. Whether it did."""

TOUCH: Final = Script("""
redis.call('SET', KEYS[1], '')
return redis.call('DEL', KEYS[1])
""")
"""Touches a name, so that who tracks it is told."""

SOURCES: Final = tuple(
    script.source for script in (STORE, REMOVE, BUMP, CREATE, RENEW, RELEASE, TOUCH)
)
"""What a connection loads before anything else."""
