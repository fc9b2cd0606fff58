"""What tests of use cases share: an App over a temporary home, and a small project."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from querycache.assembly import App
from querycache.config import load_config

SAMPLE: Mapping[str, str] = {
    "app/settings.py": '"""Settings."""\n\n\ndef read_settings(path):\n'
    '    """Read the configuration file."""\n    return open(path).read()\n',
    "app/greeting.py": "def greet(name):\n    return f'hello {name}'\n",
    "web/server.js": "export function startServer(port) {\n  return listen(port);\n}\n",
    "README.md": "# Sample\n\nA sample project that greets people.\n",
    "notes.txt": "buy milk\n",
}


def make_project(folder: Path, files: Mapping[str, str] = SAMPLE) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@asynccontextmanager
async def app_at(home: Path, **variables: str) -> AsyncGenerator[App]:
    """An App whose home is `home`, with further settings by variable."""
    environ = {"QUERYCACHE_HOME": str(home), "HOME": str(home), **variables}
    app = App(load_config(environ, cwd=home.parent).config, door="test")
    try:
        yield app
    finally:
        await app.close()
