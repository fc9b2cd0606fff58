"""The vectors of a team in Qdrant: a collection for each model, a point for each text.

A point's id is the hash of its text, so whoever indexes a text finds it there, and all bring the
same point. Its payload holds a checksum of the vector (what comes back must be bit for bit what
was brought) and one switch for each project that ever held the text. Switches are only ever set,
in place, and points are only ever inserted, so machines that write at once lose nothing of each
other's. Switches are named after the collection's birth too: a project that held points in a
collection that was lost finds none in its successor, and notices.
"""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import xxhash

from querycache.clock import Clock
from querycache.errors import NotAvailableError, UsageError
from querycache.keys import digest
from querycache.origins.index_server import SEARCH_S, Server
from querycache.origins.index_shared import VectorsUnavailableError
from querycache.origins.index_signs import Floats

if TYPE_CHECKING:
    from qdrant_client import QdrantClient
    from qdrant_client.models import ExtendedPointId

T = TypeVar("T")

WRITE_S = 15.0
"""Patience of indexing for one batch."""

_OLDEST = (1, 17)
"""The first server that can be told to insert only."""

_BATCH_FLOATS = 1 << 17  # some 3 MB of JSON; a server takes 32 MB
_MOST_POINTS = 1_000
_ROUNDS = 4
_NAME = re.compile(r"[0-9a-f]{32}")


def open_qdrant(url: str, api_key: str, prefix: str, clock: Clock) -> Qdrant:
    """Raises `NotAvailableError` without the package. Connects behind."""
    if find_spec("qdrant_client") is None:
        raise NotAvailableError(
            "QUERYCACHE_VECTOR_STORE=qdrant needs the package qdrant-client",
            remedy="pip install 'querycache[qdrant]'",
        )

    def connect() -> QdrantClient:
        from qdrant_client import QdrantClient  # noqa: PLC0415 -- takes seconds

        # as a header: as `api_key` it would warn where the address is http
        headers = {"api-key": api_key} if api_key else None
        return QdrantClient(
            url=url, timeout=math.ceil(WRITE_S), headers=headers, check_compatibility=False
        )

    return Qdrant(connect, prefix, clock)


class Qdrant:
    """A server. `server.trouble` says why it can't be used now."""

    def __init__(self, connect: Callable[[], QdrantClient], prefix: str, clock: Clock) -> None:
        self.server: Server[QdrantClient] = Server("Qdrant", connect, clock)
        self._prefix = prefix

    def vectors(self, model: str, dimensions: int, project: str) -> QdrantVectors:
        """The vectors of one model as a project has them. Asks nothing yet."""
        name = f"{self._prefix}_{digest(model)[:16]}_{dimensions}"
        return QdrantVectors(self.server, name, dimensions, project)

    def close(self) -> None:
        """Idempotent."""
        client = self.server.client
        if client.done() and client.exception() is None:
            client.result().close()


class QdrantVectors:
    """`VectorStore` in one collection, which is made when first written to."""

    def __init__(
        self, server: Server[QdrantClient], name: str, dimensions: int, project: str
    ) -> None:
        self._server = server
        self._name = name
        self._dimensions = dimensions
        self._project = project
        self._birth: str = ""
        self._ready: str = ""  # the birth of the collection that was made ready to be written to

    def birth(self) -> str:
        if not self._birth:
            self._birth = self._ask(SEARCH_S, self._read_birth)
        return self._birth

    def fetch(self, texts: Sequence[str]) -> dict[str, bytes]:
        """Those that are not bit for bit what was brought are left out."""
        asked = [text for text in texts if _NAME.fullmatch(text)]
        found: dict[str, bytes] = {}
        self._ask(WRITE_S, self._prepare)
        for part in _parts(asked, self._batch):
            found |= self._ask(WRITE_S, lambda client, part=part: self._fetch(client, part))
        return found

    def hold(self, vectors: Mapping[str, bytes]) -> str:
        for text in vectors:
            if not _NAME.fullmatch(text):
                raise UsageError(f"{text!r} is no hash of a text")
        birth = self._ask(WRITE_S, self._prepare)
        for part in _parts(list(vectors), self._batch):
            batch = {text: vectors[text] for text in part}
            self._ask(WRITE_S, lambda client, batch=batch: self._hold(client, batch, birth))
        return birth

    def nearest(self, query: Floats, limit: int, birth: str) -> dict[str, float]:
        return self._ask(SEARCH_S, lambda client: self._nearest(client, query, limit, birth))

    def lost(self, texts: int) -> VectorsUnavailableError:
        self._birth = self._ready = ""
        return self._server.failed(
            f"{texts} texts of {self._project!r} are gone from the collection {self._name}; delete"
            " it, and indexing fills it anew"
        )

    def _switch(self, birth: str) -> str:
        return f"in_{digest(birth, self._project)[:16]}"

    @property
    def _batch(self) -> int:
        return max(1, min(_MOST_POINTS, _BATCH_FLOATS // self._dimensions))

    def _ask(self, seconds: float, call: Callable[[QdrantClient], T]) -> T:
        try:
            return self._server.ask(seconds, call)
        except VectorsUnavailableError:
            self._birth = self._ready = ""  # the server may come back as another
            raise

    def _read_birth(self, client: QdrantClient) -> str:
        """The empty text where there is no collection."""
        from qdrant_client import models  # noqa: PLC0415 -- as above

        if not client.collection_exists(self._name):
            return ""
        config = client.get_collection(self._name).config
        vectors = config.params.vectors
        fits = isinstance(vectors, models.VectorParams) and (
            (vectors.size, vectors.distance) == (self._dimensions, models.Distance.DOT)
        )
        birth = (config.metadata or {}).get("birth")
        if not fits or not isinstance(birth, str) or not birth:
            raise ValueError(f"the collection {self._name} is not of querycache's making")
        return birth

    def _prepare(self, client: QdrantClient) -> str:
        """Makes the collection ready to be written to; its birth, read anew."""
        from qdrant_client import models  # noqa: PLC0415 -- as above

        birth = self._read_birth(client)
        if not birth or birth != self._ready:
            _ensure_new_enough(client.info().version)
            birth = birth or self._make(client)
            schema = models.PayloadSchemaType.BOOL
            client.create_payload_index(self._name, self._switch(birth), schema, wait=True)
            self._birth = self._ready = birth
        return birth

    def _make(self, client: QdrantClient) -> str:
        from qdrant_client import models  # noqa: PLC0415 -- as above

        # vectors are stored as given; under COSINE they would be scaled copies
        vectors = models.VectorParams(size=self._dimensions, distance=models.Distance.DOT)
        try:
            client.create_collection(
                self._name,
                vectors_config=vectors,
                hnsw_config=models.HnswConfigDiff(m=0),  # no graph: all searches are exact
                metadata={"birth": secrets.token_hex(8)},
            )
        except Exception:
            birth = self._read_birth(client)  # another machine was first
            if not birth:
                raise
            return birth
        return self._read_birth(client)

    def _hold(self, client: QdrantClient, vectors: Mapping[str, bytes], birth: str) -> None:
        for _ in range(_ROUNDS):
            seen = self._look(client, list(vectors), birth)
            missing = {text: vector for text, vector in vectors.items() if text not in seen}
            others = [text for text, ours in seen.items() if not ours]
            if missing:
                self._insert(client, missing, birth)
            if others:
                switch = {self._switch(birth): True}
                client.set_payload(self._name, switch, _ids(others), wait=True)
            if not missing and not others:
                return
        raise ValueError("the server does not keep what it is given")

    def _fetch(self, client: QdrantClient, texts: Sequence[str]) -> dict[str, bytes]:
        records = client.retrieve(self._name, _ids(texts), with_payload=["sum"], with_vectors=True)
        asked, found = set(texts), dict[str, bytes]()
        for record in records:
            text, vector = _text(record.id), _bytes(record.vector, self._dimensions)
            told = (record.payload or {}).get("sum")
            if vector is not None and text in asked and told == xxhash.xxh3_64_hexdigest(vector):
                found[text] = vector
        return found

    def _look(self, client: QdrantClient, texts: Sequence[str], birth: str) -> dict[str, bool]:
        """Which of these are there, and whether as the project's."""
        switch, asked = self._switch(birth), set(texts)
        records = client.retrieve(self._name, _ids(texts), with_payload=[switch])
        seen = {_text(each.id): (each.payload or {}).get(switch) is True for each in records}
        return {text: ours for text, ours in seen.items() if text in asked}

    def _insert(self, client: QdrantClient, vectors: Mapping[str, bytes], birth: str) -> None:
        from qdrant_client import models  # noqa: PLC0415 -- as above

        switch, mode = self._switch(birth), models.UpdateMode.INSERT_ONLY
        points = [
            models.PointStruct(
                id=text,
                vector=cast("list[float]", np.frombuffer(vector, np.float32).tolist()),
                payload={"sum": xxhash.xxh3_64_hexdigest(vector), switch: True},
            )
            for text, vector in vectors.items()
        ]
        client.upsert(self._name, points, wait=True, update_mode=mode)

    def _nearest(
        self, client: QdrantClient, query: Floats, limit: int, birth: str
    ) -> dict[str, float]:
        from qdrant_client import models  # noqa: PLC0415 -- as above

        switch = self._switch(birth)
        ours = models.FieldCondition(key=switch, match=models.MatchValue(value=True))
        ignore = models.QuantizationSearchParams(ignore=True)
        points = client.query_points(
            self._name,
            query=cast("list[float]", query.tolist()),
            query_filter=models.Filter(must=[ours]),
            search_params=models.SearchParams(exact=True, quantization=ignore),
            limit=limit,
            with_payload=False,
        ).points
        found = {_text(point.id): point.score for point in points}
        if len(found) != len(points) or len(found) > limit:
            raise ValueError("an answer with points twice, or more than were asked for")
        if not all(math.isfinite(score) for score in found.values()):
            raise ValueError("an answer with a score that is no number")
        return found


def _parts(texts: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(texts), size):
        yield texts[start : start + size]


def _ids(texts: Sequence[str]) -> list[Any]:
    """32 hex digits are a UUID in its plain form."""
    return list(texts)


def _ensure_new_enough(version: str) -> None:
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < _OLDEST:
        raise ValueError(f"the server is of version {version}; 1.17 is the oldest that serves")


def _text(point: ExtendedPointId) -> str:
    return str(point).replace("-", "").lower()


def _bytes(vector: object, dimensions: int) -> bytes | None:
    """None for what is no unit vector, nor one of zeros."""
    if not isinstance(vector, list):
        return None
    row = np.asarray(cast("list[object]", vector))
    if row.shape != (dimensions,) or row.dtype != np.float64 or not np.isfinite(row).all():
        return None
    data = row.astype(np.float32)
    length = float(np.linalg.norm(data))
    return data.tobytes() if not length or abs(length - 1) < 1e-3 else None  # noqa: PLR2004 -- rounding
