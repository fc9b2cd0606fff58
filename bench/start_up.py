"""F14: what `import querycache` loads, and how long it takes.

    python bench/start_up.py [--quick] [--json]

Each import happens in a new interpreter; the control is one that imports asyncio.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from statistics import median

import kit

HEAVY = ("numpy", "tokenizers", "tree_sitter", "mcp", "starlette", "redis", "cryptography")
PROGRAM = """\
import sys, time
before = set(sys.modules)
began = time.perf_counter()
import {module}
took = time.perf_counter() - began
print(took, *sorted(set(sys.modules) - before))
"""


def imported(module: str) -> tuple[float, set[str]]:
    """Seconds, and the top-level packages that came with it."""
    out = subprocess.run(  # noqa: S603 -- this interpreter
        [sys.executable, "-c", PROGRAM.format(module=module)],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout.split()
    return float(out[0]), {name.partition(".")[0] for name in out[1:]}


async def measure(options: kit.Options) -> Sequence[kit.Row]:
    took: dict[str, list[float]] = {"querycache": [], "asyncio": []}
    loaded: set[str] = set()
    for _ in range(2 * options.rounds):
        for module, times in took.items():
            seconds, names = await asyncio.to_thread(imported, module)
            times.append(seconds)
            if module == "querycache":
                loaded |= names
    heavy = sorted(loaded.intersection(HEAVY))
    foreign = sorted(loaded - sys.stdlib_module_names - {"querycache"})
    beside = kit.ratio(took["querycache"], took["asyncio"])
    return [
        kit.Row(
            "F14",
            "`import querycache` loads, of " + ", ".join(HEAVY),
            "none",
            ", ".join(heavy) or "none",
            not heavy,
            f"{1e3 * median(took['querycache']):.1f} ms, {beside:.2f} x `import asyncio`;"
            f" of other packages it loads {', '.join(foreign) or 'none'}",
        )
    ]


def main() -> None:
    kit.run(__doc__, measure)


if __name__ == "__main__":
    main()
