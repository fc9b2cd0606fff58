"""Addresses, settings and fingerprints of embedding servers, without a server."""

from __future__ import annotations

import numpy as np
import pytest

from querycache.errors import ConfigError
from querycache.origins import embedding_wire as wire
from querycache.origins.embedder_remote import RemoteSettings


@pytest.mark.parametrize(
    ("dialect", "url", "address"),
    [
        ("openai", "https://api.openai.com", "https://api.openai.com/v1/embeddings"),
        ("openai", " HTTPS://API.openai.com/v1/ ", "https://api.openai.com/v1/embeddings"),
        (
            "openai",
            "https://generativelanguage.googleapis.com/v1beta/openai/",
            "https://generativelanguage.googleapis.com/v1beta/openai/embeddings",
        ),
        ("openai", "http://[::1]:8080", "http://[::1]:8080/v1/embeddings"),
        ("ollama", "http://localhost:11434", "http://localhost:11434/api/embed"),
        ("ollama", "http://localhost:11434/api", "http://localhost:11434/api/embed"),
    ],
)
def test_endpoint(dialect: wire.Dialect, url: str, address: str) -> None:
    assert wire.endpoint(dialect, url) == address
    assert wire.endpoint(dialect, address) == address


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:11434",
        "ftp://x/",
        "http://",
        "http://user:pass@host",
        "http://host/?key=1",
        "http://host:port",
        "http://[::1",
    ],
)
def test_an_address_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        wire.endpoint("openai", url)
    assert "QUERYCACHE_EMBEDDER_URL" in caught.value.remedy
    assert "pass" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": ""},
        {"batch": 0},
        {"timeout_s": 0},
        {"dimensions": -1},
        {"api_key": "secret with space"},
        {"api_key": "secret\n"},
        {"api_key": "sécret"},
    ],
)
def test_settings_out_of_range(wrong: dict[str, object]) -> None:
    named: dict[str, object] = {"dialect": "openai", "url": "http://x", "model": "m", **wrong}
    with pytest.raises(ConfigError) as caught:
        RemoteSettings(**named)  # pyright: ignore[reportArgumentType]  # that's the test
    assert "cret" not in str(caught.value)


def test_numbers_of_any_size_become_unit_rows() -> None:
    body = b'{"embeddings": [[3e300, 4e300], [3e-300, -4e-300], [3, 4]]}'
    rows = wire.answered("ollama", body, 3).rows
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0.6, -0.8], [0.6, 0.8]], atol=1e-7)


def test_a_fingerprint_stays_under_noise_and_changes_with_the_model() -> None:
    draw = np.random.default_rng(7)
    moved = told = 0
    for _ in range(400):
        one, other, noise = draw.standard_normal((3, 768)).astype(np.float32)
        noisy = one + noise * np.float32(1e-3)
        moved += wire.fingerprint(one) != wire.fingerprint(noisy)
        told += wire.fingerprint(one) != wire.fingerprint(other)
    assert moved <= 12  # 1 % is 4; 12 is beyond three standard deviations
    assert told == 400


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error": {"message": "no such model", "code": 1}}', "no such model"),
        (b'{"error": "no\\n such   model"}', "no such model"),
        (b'{"detail": 1}', '{"detail": 1}'),
        (b"\xff\x00 plain KEY", "\ufffd plain ***"),
        (b"x" * 1_000, "x" * 300 + "…"),
        (b"x" * 298 + b"KEY", "x" * 298 + "**…"),
    ],
)
def test_the_words_of_a_refusal(body: bytes, words: str) -> None:
    assert wire.words_of(body, "KEY") == words


@pytest.mark.parametrize(
    ("dialect", "told", "tokens"),
    [
        ("openai", b'"usage": {"prompt_tokens": 7, "total_tokens": 9}', 7),
        ("openai", b'"usage": {"prompt_tokens": null}', 0),
        ("openai", b'"usage": "a lot"', 0),
        ("openai", b'"usage": {"prompt_tokens": -3}', 0),
        ("openai", b'"model": "m"', 0),
        ("ollama", b'"prompt_eval_count": 5', 5),
        ("ollama", b'"prompt_eval_count": "5"', 0),
    ],
)
def test_the_tokens_are_those_that_the_server_tells(
    dialect: wire.Dialect, told: bytes, tokens: int
) -> None:
    rows = {
        "openai": b'"data": [{"embedding": [3, 4], "index": 0}]',
        "ollama": b'"embeddings": [[3, 4]]',
    }
    read = wire.answered(dialect, b"{%b, %b}" % (rows[dialect], told), 1)
    assert read.tokens == tokens
    np.testing.assert_allclose(read.rows, [[0.6, 0.8]])
