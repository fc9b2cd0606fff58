"""The names of a project's files: git's own list, or a walk where there is no git."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections import Counter

from querycache.origins.beneath import DEEPEST
from querycache.origins.ignore import BUILT, VENDORED, IgnoreRules

_PATH = "/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin"
_TIME_LIMIT_S = 60.0
# A repository's own configuration can name programs: none of those that listing could start runs,
# and nothing is fetched for objects that are missing.
_SETTINGS = ("core.fsmonitor=false", "core.hooksPath=/dev/null", "safe.directory=*")
ENVIRONMENT = {
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
    "PATH": _PATH,
}


def git_names(root: str) -> list[bytes] | None:
    """What git tracks under `root` and what it would add; None where git can't say.

    A repository inside (a submodule, a clone) is one name, with or without a slash at its end.
    """
    settings = [part for setting in _SETTINGS for part in ("-c", setting)]
    command = ["git", "--no-pager", *settings, "ls-files", "-co", "--exclude-standard", "-z"]
    try:
        done = subprocess.run(  # noqa: S603 -- a fixed command, no shell
            command,
            cwd=root,
            env={**ENVIRONMENT, "HOME": _home()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_TIME_LIMIT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return [name for name in done.stdout.split(b"\0") if name]


def _home() -> str:
    """Where the user's own git configuration is (core.excludesFile)."""
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # a container's nameless user
        return "/"


def walked_names(root: str, skipped: Counter[str]) -> list[bytes]:
    """The files under `root` that no .gitignore and no custom rules out. Follows no link."""
    rules = IgnoreRules(root)
    found: list[bytes] = []
    folders = [("", 1)]
    while folders:
        folder, depth = folders.pop()
        rules.load(folder, ".gitignore")
        for name, is_folder in _entries(f"{root}/{folder}"):
            path = folder + name
            if rules.ignores(f"{path}/" if is_folder else path):
                continue
            if not is_folder:
                found.append(os.fsencode(path))
            elif name.lower() in VENDORED or name.lower() in BUILT:
                skipped["vendored"] += name != ".git"
            elif depth < DEEPEST:
                folders.append((f"{path}/", depth + 1))
    return found


def _entries(folder: str) -> list[tuple[str, bool]]:
    try:
        with os.scandir(folder) as entries:
            return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    except OSError:  # gone meanwhile, or not ours to read
        return []
