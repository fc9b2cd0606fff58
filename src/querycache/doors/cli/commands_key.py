"""Commands about the keys that seal what the shared tier holds."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Annotated

import typer

from querycache.doors.cli import screen
from querycache.doors.cli.options import Json, examples
from querycache.doors.cli.running import act, settings
from querycache.errors import NotAvailableError, UsageError

if TYPE_CHECKING:
    from querycache.assembly.sealing import Key, Keyring

_PANEL = "Set-up"


def add_to(app: typer.Typer) -> None:
    """Adds these commands."""
    key = typer.Typer(
        no_args_is_help=True, help="Make, list and retire the keys that encrypt the shared tier."
    )
    key.command(epilog=examples("key generate", "key generate --print"))(generate)
    key.command("list", epilog=examples("key list", "key list --json"))(list_keys)
    key.command(epilog=examples("key rotate"))(rotate)
    key.command(epilog=examples("key retire 1f0c2a9b"))(retire)
    app.add_typer(key, name="key", rich_help_panel=_PANEL)


def generate(
    *,
    reveal: Annotated[
        bool,
        typer.Option("--print", metavar="", help="Show the key itself, for other machines."),
    ] = False,
    json: Json = False,
) -> None:
    """Make a key and keep it in the key store; it encrypts from now on.

    What older keys encrypted stays readable.
    """
    ring = _ring()
    given = ring.given
    key = ring.generate()
    shown = base64.b64encode(key.reveal()).decode() if reveal else ""
    if json:
        screen.answer(_row(key, current=given is None) | ({"key": shown} if reveal else {}))
    else:
        screen.out().print(f"key {key.key_id} made, {key.fingerprint}", markup=False)
        if reveal:
            screen.out().print(shown, markup=False, soft_wrap=True)
        screen.say(f"kept in {ring.store.path}")
    if given is not None:
        screen.say(f"{given.source} says another key, which comes first: unset it to use this one")


def list_keys(*, json: Json = False) -> None:
    """List the keys: their ids and fingerprints, never the keys."""
    ring = _ring()
    keys = ring.all()
    current = "" if ring.empty else ring.current.key_id
    if json:
        rows = [_row(key, current=key.key_id == current) for key in keys]
        revoked = list(ring.store.revoked())
        screen.answer({"keys": rows, "revoked": revoked, "store": str(ring.store.folder)})
        return
    if not keys:
        screen.say(f"there is no key (the store is {ring.store.folder}): querycache key generate")
    for key in keys:
        mark = "*" if key.key_id == current else " "
        text = f"{mark} {key.key_id}  {key.state:7}  {key.fingerprint}  {key.source}"
        screen.out().print(screen.line(text), markup=False, soft_wrap=True)


def rotate(*, json: Json = False) -> None:
    """Make a new key in place of the one that encrypts, which goes on decrypting."""
    ring = _ring()
    if ring.given is not None:
        raise UsageError(
            f"{ring.given.source} says the key, so another in the key store changes nothing",
            remedy="unset it, or put there what `querycache key generate --print` shows",
        )
    before = ring.current.key_id
    key = ring.generate()
    if json:
        screen.answer(_row(key, current=True) | {"replaced": before})
    else:
        screen.out().print(f"key {key.key_id} in place of {before}", markup=False)


def retire(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key, as `key list` says it.")],
    *,
    force: Annotated[
        bool,
        typer.Option("--force", metavar="", help="Even though entries may need it still."),
    ] = False,
    json: Json = False,
) -> None:
    """Destroy a key of the store that only decrypts.

    What it encrypted is gone for good. It is refused while the shared tier holds such entries;
    what callers encrypted for themselves can't be counted.
    """
    ring = _ring()
    if ring.given is not None and ring.given.key_id == key_id:
        raise UsageError(
            f"{ring.given.source} says key {key_id}, so it is the one that seals",
            remedy="set another there first: querycache key generate --print",
        )
    if not force and (found := ring.get(key_id)) is not None:
        needed = act("key", lambda app: app.entries_under(found.key_id))
        if needed:
            raise NotAvailableError(
                f"key {key_id} is needed still: the shared tier holds {needed} that it sealed",
                remedy="wait until they have expired, or make them misses with --force",
            )
    if not ring.store.revoke(key_id):
        raise UsageError(f"the key store has no key {key_id}", remedy="see: querycache key list")
    if json:
        screen.answer({"retired": key_id})
    else:
        screen.out().print(f"key {key_id} is gone", markup=False)


def _ring() -> Keyring:
    from querycache.assembly.sealing import open_keyring

    return open_keyring(settings().config)


def _row(key: Key, *, current: bool) -> dict[str, object]:
    return {
        "key_id": key.key_id,
        "fingerprint": key.fingerprint,
        "state": key.state,
        "current": current,
        "created_at": key.created_at or None,
        "source": key.source,
    }
