"""What the index tests run in processes of their own: `python -m tests.live.index_process ROLE
…`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.behaviour.index_suite import DIMENSIONS, MODES, ask, file_of

from querycache.errors import ProjectNotFoundError
from querycache.origins.index import SqliteIndex
from querycache.origins.indexes import SqliteIndexes
from querycache.ports.origins import IndexedFile

FILES = 12


def generation(number: int) -> list[IndexedFile]:
    """Everything that is indexed in one generation."""
    texts = [f"generation {number} part{place} of the file" for place in range(4)]
    return [file_of(f"src/f{name}.py", texts) for name in range(FILES)]


def open_index(folder: str) -> SqliteIndex:
    return SqliteIndexes(folder).open("p", root="/r", versions="v", dimensions=DIMENSIONS)


def say(line: object) -> None:
    print(line, flush=True)  # noqa: T201 -- what the test reads


def write(folder: str, first: str, last: str) -> None:
    """Applies the generations one after the other, and says each once it is committed."""
    index = open_index(folder)
    for number in range(int(first), int(last)):
        index.apply(generation(number), [], [])
        say(number)


def read(folder: str, last_digest: str) -> None:
    """Searches until it has seen the last digest; says which generations it saw at which
    digest.
    """
    index = open_index(folder)
    say("ready")
    seen: dict[str, list[str]] = {}
    while last_digest not in seen:
        for mode in MODES:
            answer = index.search(ask("generation part1", mode, limit=200))
            texts = {" ".join(hit.text.split()[:2]) for hit in answer.hits}
            known = set(seen.get(answer.digest, []))
            # what points away from the question is no hit of the semantic arm
            seen[answer.digest] = sorted(known | texts)
            if mode != "semantic" and answer.change and len(answer.stats) != FILES:
                seen[answer.digest].append(f"{len(answer.stats)} files")
    say(json.dumps(seen))


def add(folder: str, name: str) -> None:
    """Opens the index, which may not be there yet, and adds one file of its own."""
    sys.stdin.readline()
    index = open_index(folder)
    index.apply([file_of(f"{name}.py", [f"file of process {name}"])], [], [])


def hold(folder: str) -> None:
    """Takes the right to index, and keeps it."""
    lock = SqliteIndexes(folder).try_lock("p", "index")
    say("held" if lock else "refused")
    sys.stdin.readline()


def persist(folder: str) -> None:
    """Writes until it is told to end, however often the index is forgotten under it."""
    index = open_index(folder)
    say("ready")
    stop = Path(folder).with_suffix(".stop")
    number = 0
    while not stop.exists():
        number += 1
        try:
            index.apply(generation(number % 7), [], [])
            index.search(ask("generation"))
        except ProjectNotFoundError:
            index.close()
            index = open_index(folder)
    index.close()


ROLES: Mapping[str, Callable[..., None]] = {
    "write": write,
    "read": read,
    "add": add,
    "hold": hold,
    "persist": persist,
}

if __name__ == "__main__":
    ROLES[sys.argv[1]](*sys.argv[2:])
