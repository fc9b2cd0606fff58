"""Settings of what the cache stands in front of: the model, vectors, what is indexed."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from querycache.config.readers import (
    SECONDS,
    TEXT,
    TOKEN,
    WEB_ADDRESS,
    Secret,
    Setting,
    choice,
    integer,
    matching,
    number,
)


class Embedder(msgspec.Struct, frozen=True):
    """The model that turns texts into vectors."""

    provider: Annotated[
        Literal["local", "minilm", "openai", "ollama"],
        Setting(
            "QUERYCACHE_EMBEDDER",
            choice("local", "minilm", "openai", "ollama"),
            "Which model; openai is any endpoint of that shape.",
        ),
    ] = "local"
    url: Annotated[
        str, Setting("QUERYCACHE_EMBEDDER_URL", WEB_ADDRESS, "Address of a remote model.")
    ] = ""
    model: Annotated[
        str, Setting("QUERYCACHE_EMBEDDER_MODEL", TEXT, "Name of a remote model.")
    ] = ""
    api_key: Annotated[
        Secret, Setting("QUERYCACHE_EMBEDDER_API_KEY", TOKEN, "Key of a remote model.")
    ] = Secret()
    dimensions: Annotated[
        int,
        Setting(
            "QUERYCACHE_EMBEDDER_DIMENSIONS",
            integer(0, 65536),
            "Dimensions asked of the model (0: its own).",
        ),
    ] = 0
    batch: Annotated[
        int, Setting("QUERYCACHE_EMBEDDER_BATCH", integer(1, 4096), "Texts in one call.")
    ] = 64
    timeout_s: Annotated[
        float, Setting("QUERYCACHE_EMBEDDER_TIMEOUT_S", SECONDS, "Wait for one call.")
    ] = 30
    price: Annotated[
        float,
        Setting(
            "QUERYCACHE_EMBEDDER_PRICE",
            number(0, 1_000_000),
            "Price of a million tokens in your currency, for the money that statistics say was"
            " saved (0: none is said).",
        ),
    ] = 0


class VectorStore(msgspec.Struct, frozen=True):
    """Where vectors are searched; each index keeps its own in any case."""

    kind: Annotated[
        Literal["sqlite", "qdrant"],
        Setting(
            "QUERYCACHE_VECTOR_STORE",
            choice("sqlite", "qdrant"),
            "sqlite: in each index; qdrant: on a server that a team shares.",
        ),
    ] = "sqlite"
    url: Annotated[
        str,
        Setting("QUERYCACHE_QDRANT_URL", WEB_ADDRESS, "Address of Qdrant (its port: 6333)."),
    ] = ""
    api_key: Annotated[Secret, Setting("QUERYCACHE_QDRANT_API_KEY", TOKEN, "Key of Qdrant.")] = (
        Secret()
    )
    prefix: Annotated[
        str,
        Setting(
            "QUERYCACHE_QDRANT_PREFIX",
            matching(r"[A-Za-z0-9_-]{1,64}", "up to 64 of the characters A-Z a-z 0-9 _ -"),
            "How the names of collections begin; a team shares one.",
        ),
    ] = "querycache"


class Index(msgspec.Struct, frozen=True):
    """What is indexed."""

    max_file_bytes: Annotated[
        int,
        Setting(
            "QUERYCACHE_MAX_FILE_BYTES",
            integer(1, 1024 * 1024 * 1024),
            "A larger file is not indexed.",
        ),
    ] = 1024 * 1024
