"""What every `Indexes` and `Index` must do: inherit `IndexSuite`, give it `make`."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
import pytest

from querycache.errors import ClosedError, ProjectNotFoundError, UsageError
from querycache.ports.origins import (
    Chunk,
    FileStat,
    Hit,
    Index,
    IndexedChunk,
    IndexedFile,
    Indexes,
    Mode,
    Question,
)

Make = Callable[[Path], Indexes]

DIMENSIONS = 16
MODES: tuple[Mode, ...] = ("hybrid", "semantic", "keyword")
_LINE = (
    "parse request session cookie getHTTPResponse user_name index open file read bytes vector"
    " cache return self token scan lock reader writer commit digest weight fuse rank"
)
WORDS = _LINE.split()


def vector_of(text: str) -> bytes:
    """A unit vector that a text alone determines."""
    numbers = np.random.default_rng(list(sha256(text.encode("utf-8", "replace")).digest()))
    vector = numbers.standard_normal(DIMENSIONS).astype(np.float32)
    return (vector / np.linalg.norm(vector)).tobytes()


def file_of(path: str, texts: Sequence[str], language: str = "python") -> IndexedFile:
    """A file of these chunks, ten lines each."""
    chunks: list[IndexedChunk] = []
    offset = 0
    for place, text in enumerate(texts):
        end = offset + len(text.encode("utf-8", "replace"))
        chunk = Chunk(offset, end, 10 * place + 1, 10 * place + 10, f"symbol_{place}", text)
        text_hash = sha256(text.encode("utf-8", "replace")).hexdigest()[:32]
        chunks.append(IndexedChunk(chunk, text_hash, vector_of(text)))
        offset = end
    whole = repr(texts).encode()
    stat = FileStat(path, offset, len(texts), (1 << 64) - len(path))
    return IndexedFile(stat, sha256(whole).hexdigest()[:32], language, tuple(chunks))


def some_file(path: str, version: int) -> IndexedFile:
    """The file that this path holds in this version."""
    choose = random.Random(repr((path, version)))  # noqa: S311 -- texts, not secrets
    texts = [
        " ".join(choose.choices(WORDS, k=choose.randint(3, 25)))
        for _ in range(choose.randint(0, 5))
    ]
    return file_of(path, texts, choose.choice(["python", "go"]))


def some_paths(count: int) -> list[str]:
    return [f"src/part{number % 5}/file{number}.py" for number in range(count)]


def some_questions(seed: int, count: int) -> list[Question]:
    choose = random.Random(seed)  # noqa: S311 -- as above
    questions: list[Question] = []
    for number in range(count):
        text = " ".join(choose.choices(WORDS, k=choose.randint(1, 4)))
        questions.append(
            Question(
                text,
                vector_of(text),
                MODES[number % 3],
                limit=choose.choice([1, 5, 10, 200]),
                language=choose.choice(["", "", "python", "go"]),
                path=choose.choice(["", "", "src/part1/", "*3.py", "src/**/file1*"]),
            )
        )
    return questions


def ask(text: str, mode: Mode = "hybrid", limit: int = 10) -> Question:
    return Question(text, vector_of(text), mode, limit)


def paths(hits: Sequence[Hit]) -> list[str]:
    return [hit.path for hit in hits]


class IndexSuite:
    """Subclasses override the fixture `make`: all indexes under a folder, as one process has
    them.
    """

    @pytest.fixture
    def make(self) -> Make:
        raise NotImplementedError

    @pytest.fixture
    def indexes(self, make: Make, tmp_path: Path) -> Indexes:
        return make(tmp_path / "indexes")

    @pytest.fixture
    def new(self, indexes: Indexes, tmp_path: Path) -> Iterator[Callable[..., Index]]:
        opened: list[Index] = []

        def open_index(
            name: str = "p", versions: str = "v1", dimensions: int = DIMENSIONS
        ) -> Index:
            root = str(tmp_path / "roots" / name)
            opened.append(indexes.open(name, root=root, versions=versions, dimensions=dimensions))
            return opened[-1]

        yield open_index
        for index in opened:
            index.close()

    @pytest.fixture
    def index(self, new: Callable[..., Index]) -> Index:
        return new()

    def test_a_project_that_was_never_indexed_is_not_found(self, indexes: Indexes) -> None:
        with pytest.raises(ProjectNotFoundError) as raised:
            indexes.open("p")
        assert raised.value.remedy
        assert indexes.names() == []
        assert not indexes.forget("p")

    def test_a_new_index_is_empty_and_has_a_digest(self, index: Index, tmp_path: Path) -> None:
        state = index.state()
        assert (state.name, state.root) == ("p", str(tmp_path / "roots" / "p"))
        assert (state.files, state.chunks, state.change, state.indexed_at) == (0, 0, 0, 0.0)
        assert len(state.digest) == 32
        for mode in MODES:
            assert index.search(ask("anything", mode)).hits == ()

    def test_what_was_applied_is_known(self, index: Index) -> None:
        file = file_of("a.py", ["one two", "three"])
        state = index.apply([file], [], [], completed=5.5)
        assert state == index.state()
        assert (state.files, state.chunks, state.change, state.indexed_at) == (1, 2, 1, 5.5)
        known = index.known()["a.py"]
        assert (known.stat, known.content_hash) == (file.stat, file.content_hash)
        assert (known.language, known.chunks) == ("python", 2)
        assert index.stats(["a.py", "b.py"]) == {"a.py": file.stat}
        hashes = [chunk.text_hash for chunk in file.chunks]
        assert index.vectors([*hashes, "unknown"]) == {
            chunk.text_hash: chunk.vector for chunk in file.chunks
        }

    def test_it_outlives_its_handle(self, new: Callable[..., Index], indexes: Indexes) -> None:
        state = new().apply([some_file("a.py", 1)], [], [])
        again = indexes.open("p")
        assert again.state() == state
        again.close()

    def test_the_digest_follows_the_content_alone(self, new: Callable[..., Index]) -> None:
        there, here = new("p"), new("q")
        files = [some_file(path, 1) for path in some_paths(20)]
        for file in files:
            there.apply([file], [], [])
        here.apply([some_file(path, 2) for path in some_paths(30)], [], [])
        assert here.state().digest != there.state().digest
        here.apply(files[::-1], some_paths(30)[20:], [])
        assert here.state().digest == there.state().digest
        assert new("r", versions="v2").state().digest != new("s").state().digest

    def test_only_another_digest_is_another_change(self, index: Index) -> None:
        file = some_file("a.py", 1)
        first = index.apply([file], [], [])
        moved = msgspec.structs.replace(file.stat, mtime_ns=77, inode=5)
        touched = index.apply([], ["never.py"], [moved])
        assert (touched.digest, touched.change) == (first.digest, first.change)
        assert index.known()["a.py"].stat == moved
        again = index.apply([file], [], [])
        assert (again.digest, again.change) == (first.digest, first.change)
        assert index.known()["a.py"].stat == file.stat
        gone = index.apply([], ["a.py"], [])
        assert gone.digest != first.digest
        assert gone.change == first.change + 1
        assert (gone.files, gone.chunks) == (0, 0)

    def test_a_completed_run_is_dated_even_where_nothing_changed(self, index: Index) -> None:
        index.apply([], [], [], completed=9.0)
        assert index.state().indexed_at == 9.0
        assert index.state().change == 0

    def test_hits_say_where_they_are_and_why(self, index: Index) -> None:
        wanted = file_of("deep/a.py", ["alpha beta", "gamma delta epsilon"])
        index.apply([wanted, file_of("b.go", ["zeta eta"], "go")], [], [])
        answer = index.search(ask("gamma delta epsilon"))
        hit = answer.hits[0]
        assert (hit.path, hit.start_line, hit.end_line) == ("deep/a.py", 11, 20)
        assert (hit.symbol, hit.language) == ("symbol_1", "python")
        assert hit.text == "gamma delta epsilon"
        assert (hit.semantic_rank, hit.keyword_rank) == (1, 1)
        assert hit.similarity == pytest.approx(1.0, abs=1e-5)
        assert answer.digest == index.state().digest
        assert answer.change == index.state().change
        assert [stat.path for stat in answer.stats] == list(dict.fromkeys(paths(answer.hits)))
        assert answer.stats[0] == wanted.stat

    def test_each_mode_asks_its_own_arm(self, index: Index) -> None:
        index.apply([file_of("a.py", ["apple"]), file_of("b.py", ["banana"])], [], [])
        text, vector = "apple", vector_of("banana")
        keyword = index.search(Question(text, None, "keyword")).hits
        assert paths(keyword) == ["a.py"]
        assert (keyword[0].semantic_rank, keyword[0].similarity) == (0, 0.0)
        semantic = index.search(Question(text, vector, "semantic")).hits
        assert semantic[0].path == "b.py"
        assert semantic[0].keyword_rank == 0
        hybrid = index.search(Question(text, vector, "hybrid")).hits
        assert set(paths(hybrid)) == {"a.py", "b.py"}

    def test_scores_fall_and_ranks_are_places(self, index: Index) -> None:
        index.apply([some_file(path, 1) for path in some_paths(60)], [], [])
        for question in some_questions(1, 30):
            hits = index.search(question).hits
            assert [hit.score for hit in hits] == sorted((h.score for h in hits), reverse=True)
            assert len(hits) <= question.limit
            assert len({(hit.path, hit.start_line) for hit in hits}) == len(hits)
            for ranks in ([h.semantic_rank for h in hits], [h.keyword_rank for h in hits]):
                told = [rank for rank in ranks if rank]
                assert len(set(told)) == len(told)

    def test_filters_come_before_the_ranking(self, index: Index) -> None:
        many = [file_of(f"src/f{number}.py", ["needle in hay"]) for number in range(300)]
        few = [
            file_of("lib/deep/only.go", ["needle among other things here"], "go"),
            file_of("lib/other.rb", ["a needle that is thin and long"], "ruby"),
        ]
        index.apply([*many, *few], [], [])
        for mode in MODES:
            question = ask("needle", mode)
            by_language = msgspec.structs.replace(question, language="go")
            assert set(paths(index.search(by_language).hits)) <= {"lib/deep/only.go"}
            by_path = msgspec.structs.replace(question, path="lib/**")
            assert set(paths(index.search(by_path).hits)) <= {f.stat.path for f in few}
            neither = msgspec.structs.replace(question, language="go", path="src/*")
            assert index.search(neither).hits == ()
        by_words = Question("needle", None, "keyword", path="lib/")
        assert len(index.search(by_words).hits) == 2

    def test_equals_are_ranked_by_path_and_place(self, index: Index) -> None:
        names = [f"f{number:03}.py" for number in range(250)]
        shuffled = random.Random(4).sample(names, len(names))  # noqa: S311 -- an order
        for start in range(0, 250, 50):
            some = [file_of(name, ["same same", "same same"]) for name in shuffled[start:][:50]]
            index.apply(some, [], [])
        for mode in MODES:
            hits = index.search(ask("same same", mode, limit=6)).hits
            places = [(hit.path, hit.start_line) for hit in hits]
            assert places == [(name, line) for name in names[:3] for line in (1, 11)], mode

    def test_the_ranking_depends_on_the_content_alone(self, new: Callable[..., Index]) -> None:
        direct, winding = new("p"), new("q")
        final = {path: some_file(path, 3) for path in some_paths(80)}
        direct.apply(list(final.values()), [], [])
        choose = random.Random(11)  # noqa: S311 -- a history
        every = some_paths(120)
        for round_ in range(12):
            edited = [some_file(path, round_) for path in choose.sample(every, 25)]
            winding.apply(edited, choose.sample(every, 10), [])
            winding.search(ask(choose.choice(WORDS)))  # so that it follows change by change
        for part in range(4):
            winding.apply(list(final.values())[part::4], every[80 + part :: 4], [])
        assert winding.state().digest == direct.state().digest
        for question in some_questions(5, 120):
            assert winding.search(question).hits == direct.search(question).hits, question

    def test_another_handle_sees_each_change(self, new: Callable[..., Index]) -> None:
        writer, reader = new(), new()
        for version in range(8):
            writer.apply([some_file(path, version) for path in some_paths(9)[version:]], [], [])
            for question in some_questions(version, 6):
                assert reader.search(question) == writer.search(question)

    def test_readers_see_whole_transactions(self, new: Callable[..., Index]) -> None:
        index, rehearsal = new("p"), new("q")
        rounds = [
            [file_of(name, [f"generation {number}"] * 3) for name in some_paths(6)]
            for number in range(40)
        ]
        text_at = {rehearsal.state().digest: set[str]()}
        for number, files in enumerate(rounds):
            text_at[rehearsal.apply(files, [], []).digest] = {f"generation {number}"}
        done = threading.Event()

        def read(mode: Mode) -> list[tuple[int, set[str]]]:
            wrong: list[tuple[int, set[str]]] = []
            while not done.is_set():
                answer = index.search(ask("generation", mode, limit=50))
                texts = {hit.text for hit in answer.hits}
                # what points away from the question is no hit of the semantic arm
                if texts != text_at[answer.digest] and (texts or mode != "semantic"):
                    wrong.append((answer.change, texts))
            return wrong

        with ThreadPoolExecutor(len(MODES)) as pool:
            readers = [pool.submit(read, mode) for mode in MODES]
            try:
                for files in rounds:
                    index.apply(files, [], [])
            finally:
                done.set()
            assert [reader.result() for reader in readers] == [[], [], []]

    def test_other_versions_start_empty(self, new: Callable[..., Index]) -> None:
        old = new()
        before = old.apply([some_file("a.py", 1)], [], [], completed=3.0)
        other = new(versions="v2", dimensions=4)
        state = other.state()
        assert (state.files, state.chunks, state.indexed_at) == (0, 0, 0.0)
        assert state.versions == "v2"
        assert state.change > before.change
        assert state.digest != before.digest
        assert other.search(Question("parse", None, "keyword")).hits == ()
        for use in (
            lambda: old.search(ask("parse")),
            lambda: old.vectors(["h"]),
            lambda: old.apply([some_file("b.py", 1)], [], []),
        ):
            with pytest.raises(ProjectNotFoundError):
                use()
        assert other.state() == state

    def test_the_same_versions_keep_what_is_there(self, new: Callable[..., Index]) -> None:
        state = new().apply([some_file("a.py", 1)], [], [])
        assert new().state() == state

    def test_a_forgotten_index_is_noticed_where_it_is_open(
        self, new: Callable[..., Index], indexes: Indexes
    ) -> None:
        index = new()
        index.apply([some_file(path, 1) for path in some_paths(5)], [], [])
        index.search(ask("parse"))
        assert indexes.forget("p")
        assert indexes.names() == []
        for use in (
            index.state,
            index.known,
            lambda: index.search(ask("parse")),
            lambda: index.apply([], [], []),
        ):
            with pytest.raises(ProjectNotFoundError):
                use()
        assert not indexes.forget("p")

    def test_one_indexed_anew_is_read_by_those_who_had_the_old(
        self, new: Callable[..., Index], indexes: Indexes
    ) -> None:
        old = new()
        old.apply([file_of("old.py", ["parse the old"])], [], [])
        assert paths(old.search(ask("parse")).hits) == ["old.py"]
        indexes.forget("p")
        again = new()
        again.apply([file_of("new.py", ["parse the new"])], [], [])
        assert paths(old.search(Question("parse", None, "keyword")).hits) == ["new.py"]
        assert old.search(ask("parse")) == again.search(ask("parse"))
        assert old.apply([], ["new.py"], []).files == 0

    def test_projects_stand_apart(self, new: Callable[..., Index], indexes: Indexes) -> None:
        mine, theirs = new("p"), new("q")
        mine.apply([file_of("mine.py", ["secret word"])], [], [])
        theirs.apply([file_of("theirs.py", ["public word"])], [], [])
        for mode in MODES:
            assert set(paths(theirs.search(ask("secret word", mode)).hits)) <= {"theirs.py"}
        indexes.forget("q")
        assert mine.state().files == 1

    def test_a_root_finds_its_name(
        self, new: Callable[..., Index], indexes: Indexes, tmp_path: Path
    ) -> None:
        (tmp_path / "roots" / "p").mkdir(parents=True)
        (tmp_path / "link").symlink_to(tmp_path / "roots" / "p")
        new("p")
        assert indexes.find(str(tmp_path / "link")) == "p"
        assert indexes.find(str(tmp_path / "roots" / "p") + "/") == "p"
        assert indexes.find(str(tmp_path)) is None

    HOSTILE = (
        "..", ".", "../x", "/etc/passwd", "a/b", ".hidden", "~", "~user", "%2E", "*", "a\nb",
        "con:1", "_", "é" * 300, "\ud800", "x" * 5000, ".locks", "a\x00b", "-rf",
    )  # fmt: skip

    def test_any_name_names_one_project(self, indexes: Indexes, tmp_path: Path) -> None:
        opened = {
            name: indexes.open(name, root=f"/r{number}", versions="v", dimensions=DIMENSIONS)
            for number, name in enumerate(self.HOSTILE)
        }
        for number, (name, index) in enumerate(opened.items()):
            index.apply([file_of(f"f{number}.py", ["a word"])], [], [])
            assert index.state().name == name
        assert indexes.names() == sorted(self.HOSTILE)
        assert {each.name for each in tmp_path.iterdir()} == {"indexes"}
        for number, (name, index) in enumerate(opened.items()):
            assert list(index.known()) == [f"f{number}.py"]
            lock = indexes.try_lock(name, "index")
            assert lock is not None
            lock.release()
            index.close()
            assert indexes.forget(name)
        assert indexes.names() == []

    def test_no_name_is_no_project(self, indexes: Indexes) -> None:
        with pytest.raises(UsageError):
            indexes.open("", root="/r", versions="v", dimensions=4)

    def test_a_right_is_held_by_one(self, make: Make, tmp_path: Path) -> None:
        one, other = make(tmp_path / "i"), make(tmp_path / "i")
        lock = one.try_lock("p", "index")
        assert lock is not None
        assert one.try_lock("p", "index") is None
        assert other.try_lock("p", "index") is None
        watch, elsewhere = other.try_lock("p", "watch"), other.try_lock("q", "index")
        assert watch is not None
        assert elsewhere is not None
        lock.release()
        lock.release()
        again = other.try_lock("p", "index")
        assert again is not None
        for held in (again, watch, elsewhere):
            held.release()

    def test_a_right_survives_that_its_project_is_forgotten(
        self, new: Callable[..., Index], indexes: Indexes
    ) -> None:
        new()
        lock = indexes.try_lock("p", "index")
        assert lock is not None
        indexes.forget("p")
        assert indexes.try_lock("p", "index") is None
        new()
        assert indexes.try_lock("p", "index") is None
        lock.release()

    STRANGE = (
        'say "hello"', "NEAR(a b, 3)", "symbol : x", "{path} : y", "a* OR b", "-parse", "^parse",
        "", "   ", "?!", "🙂", "\x00", "\ud800", "the of and", "'; DROP TABLE file; --", "AND",
        "parse " * 5000, "x" * 100_000, " ".join(f"w{n}" for n in range(5000)),
    )  # fmt: skip

    @pytest.mark.parametrize("text", STRANGE, ids=range(len(STRANGE)))
    def test_any_text_may_be_asked_and_indexed(self, index: Index, text: str) -> None:
        path = f"{text[:40]}/weird\udcff\n.py".replace("\x00", "")
        file = file_of(path, [text, "parse the request"])
        index.apply([file, file_of("b.py", ["something else"])], [], [])
        for mode in MODES:
            for hit in index.search(ask(text, mode, limit=50)).hits:
                assert hit.text in {text, "parse the request", "something else"}
        assert index.known()[path].stat == file.stat
        assert index.apply([], [path], []).files == 1
        assert "parse the request" not in {h.text for h in index.search(ask("parse")).hits}

    def test_words_and_their_parts_are_found(self, index: Index) -> None:
        index.apply([file_of("a.py", ["x = getHTTPResponse(user_name)"])], [], [])
        index.apply([file_of("b.py", ["nothing of this kind"])], [], [])
        for text in ("getHTTPResponse", "http response", "user_name", "name", "Responses"):
            assert paths(index.search(Question(text, None, "keyword")).hits) == ["a.py"], text

    def test_a_text_without_content_is_not_similar(self, index: Index) -> None:
        blank = file_of("blank.py", ["   "])
        zero = msgspec.structs.replace(blank.chunks[0], vector=bytes(4 * DIMENSIONS))
        index.apply([msgspec.structs.replace(blank, chunks=(zero,))], [], [])
        assert index.search(ask("parse", "semantic")).hits == ()
        nothing = Question("parse", bytes(4 * DIMENSIONS), "semantic")
        index.apply([some_file("a.py", 1)], [], [])
        assert index.search(nothing).hits == ()

    def test_vectors_of_another_size_are_refused(self, index: Index) -> None:
        file = some_file("src/part0/file0.py", 2)
        short = msgspec.structs.replace(file.chunks[0], vector=bytes(8))
        with pytest.raises(UsageError):
            index.apply([msgspec.structs.replace(file, chunks=(short,))], [], [])
        index.apply([file], [], [])
        for vector in (bytes(8), None):
            with pytest.raises(UsageError):
                index.search(Question("parse", vector, "semantic"))
        assert index.state().files == 1

    def test_a_file_may_be_empty(self, index: Index) -> None:
        state = index.apply([file_of("empty.py", []), file_of("a.py", ["parse"])], [], [])
        assert (state.files, state.chunks) == (2, 1)
        assert paths(index.search(ask("parse")).hits) == ["a.py"]
        assert index.apply([], ["empty.py"], []).files == 1

    def test_the_last_of_equal_paths_counts(self, index: Index) -> None:
        first, last = file_of("a.py", ["first"]), file_of("a.py", ["last", "of all"])
        state = index.apply([first, last], ["a.py"], [])
        assert (state.files, state.chunks) == (1, 2)
        assert index.known()["a.py"].content_hash == last.content_hash

    def test_a_closed_index_says_so(self, new: Callable[..., Index]) -> None:
        index = new()
        index.close()
        index.close()
        for use in (index.state, index.known, lambda: index.apply([], [], [])):
            with pytest.raises(ClosedError):
                use()
