"""Messages come back, or say why not."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.codec.seal_kit import OTHER_KEY, ring_of

from querycache.codec.messages import Messages
from querycache.errors import ConfigError, EncryptionOperationError

OURS = Messages(ring_of())
GOLDEN = (
    "514501003dd29dfacfb44f058b77a5d6903734f767353ea6d6def6cdce3c35ccf431d2db"
    "558c12c6fcc5e803c60e6c4491ad01b208f08565cbdfd57f773675de868f9d2cbb87e103"
)


@given(message=st.binary(max_size=200))
def test_a_message_comes_back_and_is_not_shown(message: bytes) -> None:
    sealed = OURS.encrypt(message)
    assert OURS.decrypt(sealed) == message
    assert len(sealed) == 52 + len(message)
    assert OURS.encrypt(message) != sealed


def test_version_1_opens_as_it_ever_did() -> None:
    assert OURS.decrypt(bytes.fromhex(GOLDEN)) == b"test encryption data"


def test_every_flipped_bit_and_every_cut_is_noticed() -> None:
    sealed = OURS.encrypt(b"a planted value")
    for bit in range(len(sealed) * 8):
        flipped = bytearray(sealed)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(EncryptionOperationError):
            OURS.decrypt(bytes(flipped))
    for end in range(len(sealed)):
        with pytest.raises(EncryptionOperationError):
            OURS.decrypt(sealed[:end])
    with pytest.raises(EncryptionOperationError, match="altered"):
        OURS.decrypt(sealed + b"x")


def test_another_key_is_named() -> None:
    with pytest.raises(EncryptionOperationError, match=r"sealed by key [0-9a-f]{8}") as caught:
        Messages(ring_of(OTHER_KEY)).decrypt(OURS.encrypt(b"x"))
    assert "key list" in caught.value.remedy


def test_older_keys_go_on_opening(tmp_path: Path) -> None:
    ring = ring_of(None, tmp_path)
    with pytest.raises(ConfigError):
        Messages(ring).encrypt(b"x")
    ring.generate()
    old = Messages(ring).encrypt(b"old")
    other = ring_of(None, tmp_path)
    other.generate()
    fresh = Messages(other).encrypt(b"fresh")
    for mine in (ring, other):
        assert Messages(mine).decrypt(old) == b"old"
        assert Messages(mine).decrypt(fresh) == b"fresh"
