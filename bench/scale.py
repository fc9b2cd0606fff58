"""What one Redis node, and a cluster of three, give to 1, 2 and 4 processes.

    python bench/scale.py [--quick]

Each process runs the whole cache with L1 off, 64 callers at once, nine gets of 1 KB to one set:
operations a second of all processes together, and, by the servers' own counts, round trips (reads
from sockets), commands and bytes for an operation. Then processes with L1 on listen while one
writes values that others must hear of: bytes that the servers send for a write, by listeners.

Servers and processes share this machine's cores: the sums say how work is spread, not what a
network of machines would reach.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import kit
import redis

from querycache.assembly import App

KEYS = [f"answer:{number}" for number in range(2_000)]
CALLERS = 64
VALUE = random.Random(5).randbytes(512).hex()  # noqa: S311 -- the same in every run
PROCESSES = (1, 2, 4)
TOLD = 500


class Counts(NamedTuple):
    """What the servers did, summed over nodes."""

    commands: int
    reads: int
    bytes_in: int
    bytes_out: int

    def since(self, before: Counts) -> Counts:
        return Counts(*(now - then for now, then in zip(self, before, strict=True)))


class Servers(NamedTuple):
    """Running servers and the address that names them."""

    url: str
    ports: tuple[int, ...]

    def counts(self) -> Counts:
        total = [0, 0, 0, 0]
        for port in self.ports:
            with contextlib.closing(redis.Redis(port=port)) as client:
                info = client.info("stats")
            for place, name in enumerate(
                (
                    "total_commands_processed",
                    "total_reads_processed",
                    "total_net_input_bytes",
                    "total_net_output_bytes",
                )
            ):
                total[place] += int(info[name])
        return Counts(*total)


@contextmanager
def one_node() -> Generator[Servers]:
    with kit.scratch() as folder, kit.redis_at(folder) as (_, port):
        yield Servers(f"redis://127.0.0.1:{port}/0", (port,))


@contextmanager
def three_nodes() -> Generator[Servers]:
    program = shutil.which("redis-cli") or "redis-cli"
    with ExitStack() as stack:
        ports: list[int] = []
        for _ in range(3):
            folder = stack.enter_context(kit.scratch())
            _, port = stack.enter_context(
                kit.redis_at(folder, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
            )
            ports.append(port)
        addresses = [f"127.0.0.1:{port}" for port in ports]
        command = [program, "--cluster", "create", *addresses, "--cluster-yes"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 -- our own
        yield Servers(f"redis+cluster://{','.join(addresses)}", tuple(ports))


# --- what a process does -----------------------------------------------------------------------


@asynccontextmanager
async def service_at(url: str, level: str) -> AsyncGenerator[App]:
    with kit.scratch() as home:
        async with kit.app_at(home, REDIS_URL=url, CACHE_LEVEL=level) as app:
            yield app


async def mixed(url: str, seconds: float) -> None:
    """Gets and sets as fast as it can; prints how many, and how many gets found nothing."""
    async with service_at(url, "L2_REDIS") as app:
        draw = random.Random(os.getpid())  # noqa: S311
        done = missed = 0
        await app.remember.set_batch(dict.fromkeys(KEYS, VALUE), ttl=3600)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        deadline = time.monotonic() + seconds

        async def caller() -> None:
            nonlocal done, missed
            while time.monotonic() < deadline:
                key = draw.choice(KEYS)
                if draw.random() < 0.1:  # noqa: PLR2004
                    await app.remember.set(key, VALUE, ttl=3600)
                else:
                    missed += await app.remember.get(key) is None
                done += 1

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        print(done, missed, flush=True)


async def listening(url: str) -> None:
    """Holds the keys in L1; at the end prints how many of them it still holds."""
    async with service_at(url, "BOTH") as app:
        await app.remember.get_batch(KEYS[:TOLD])
        held = len(app.l1.entries)
        print("ready", held, flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        app.core.generations.catch_up()
        print(len(app.l1.entries), held, flush=True)


async def telling(url: str) -> None:
    async with service_at(url, "BOTH") as app:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        for key in KEYS[:TOLD]:
            await app.remember.set(key, VALUE, ttl=3600)
        print("done", flush=True)


class Worker(NamedTuple):
    """A process of ours, told by lines."""

    stdin: IO[str]
    stdout: IO[str]

    def line(self) -> str:
        line = self.stdout.readline()
        assert line, "a process ended early"
        return line.strip()

    def go(self) -> None:
        self.stdin.write("go\n")
        self.stdin.flush()


@contextmanager
def worker(*arguments: str) -> Generator[Worker]:
    command = [sys.executable, str(Path(__file__).resolve()), "--worker", *arguments]
    with subprocess.Popen(  # noqa: S603 -- this very file
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Worker(process.stdin, process.stdout)


# --- the tables --------------------------------------------------------------------------------


def load(servers: Servers, processes: int, seconds: float) -> str:
    with ExitStack() as stack:
        workers = [
            stack.enter_context(worker("mixed", servers.url, str(seconds)))
            for _ in range(processes)
        ]
        for each in workers:
            assert each.line() == "ready"
        before = servers.counts()
        for each in workers:
            each.go()
        told = [each.line().split() for each in workers]
        spent = servers.counts().since(before)
    done = sum(int(words[0]) for words in told)
    assert not any(int(words[1]) for words in told), "values were missing"
    return (
        f"| {processes} | {done / seconds:,.0f} | {spent.reads / done:.2f} |"
        f" {spent.commands / done:.2f} | {spent.bytes_in / done:.0f} |"
        f" {spent.bytes_out / done:.0f} |"
    )


def told_to(servers: Servers, listeners: int) -> float:
    """Bytes that the servers send while `TOLD` values are written, for each."""
    with ExitStack() as stack:
        writer = stack.enter_context(worker("telling", servers.url))
        others = [stack.enter_context(worker("listening", servers.url)) for _ in range(listeners)]
        assert writer.line() == "ready"
        for each in others:
            assert each.line() == f"ready {TOLD}"
        before = servers.counts()
        writer.go()
        assert writer.line() == "done"
        time.sleep(0.2)
        spent = servers.counts().since(before)
        for each in others:
            each.go()
            assert each.line() == f"0 {TOLD}", "a listener did not hear of a write"
    return spent.bytes_out / TOLD


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        what, url, *rest = sys.argv[2:]
        work = {"mixed": mixed, "listening": listening, "telling": telling}[what]
        asyncio.run(work(url, *map(float, rest)))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller, to see that it works")
    quick = parser.parse_args().quick
    for name, servers_of in (("one node", one_node), ("a cluster of three", three_nodes)):
        with servers_of() as servers:
            print(f"\n{name}: nine gets of 1 KB to one set, {CALLERS} callers a process, L1 off\n")
            print("| processes | operations/s | round trips/op | commands/op | bytes in | out |")
            print("|---|---|---|---|---|---|")
            for processes in PROCESSES:
                print(load(servers, processes, 1.0 if quick else 5.0), flush=True)
            alone = told_to(servers, 0)
            print("\n| listeners | bytes sent for a told write | of it for each listener |")
            print("|---|---|---|")
            print(f"| 0 | {alone:.0f} | |")
            for listeners in PROCESSES:
                sent = told_to(servers, listeners)
                print(f"| {listeners} | {sent:.0f} | {(sent - alone) / listeners:.0f} |")


if __name__ == "__main__":
    main()
