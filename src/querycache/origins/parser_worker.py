"""The parser's own process: frames of files in, frames of cuts out.

It says that it is ready with an empty frame, answers in order, and ends when its input does, that
is with its parent.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import resource
import signal
import sys
from typing import BinaryIO

import msgspec
import tree_sitter

from querycache.origins.chunking import cut_lines, cut_tree
from querycache.origins.languages import GRAMMARS
from querycache.origins.parser_wire import LENGTH, Reply, Request, frame

MAX_MEMORY = 2 << 30  # bytes of address space


def cut(language: str, data: bytes) -> Reply:
    """Cuts one file; without a grammar by lines."""
    parser = _parser(language)
    if parser is None:
        return Reply(had_errors=False, cuts=cut_lines(data))
    root = parser.parse(data).root_node
    return Reply(had_errors=root.has_error, cuts=cut_tree(root, data, language))


@functools.cache
def _parser(language: str) -> tree_sitter.Parser | None:
    grammar = GRAMMARS.get(language)
    if grammar is None:
        return None
    module = importlib.import_module(grammar.module)
    pointer: object = getattr(module, grammar.function)()
    return tree_sitter.Parser(tree_sitter.Language(pointer))


def serve(source: BinaryIO, sink: BinaryIO, cpu_limit_s: float) -> None:
    """Answers until the input ends. A file that takes more CPU time kills it (SIGPROF)."""
    encoder = msgspec.msgpack.Encoder()
    decoder = msgspec.msgpack.Decoder(Request)
    sink.write(frame(b""))
    sink.flush()
    while len(header := source.read(LENGTH.size)) == LENGTH.size:
        request = decoder.decode(source.read(LENGTH.unpack(header)[0]))
        # Only the end of the process ends a parse that hangs.
        signal.setitimer(signal.ITIMER_PROF, cpu_limit_s)
        reply = cut(request.language, request.data)
        signal.setitimer(signal.ITIMER_PROF, 0)
        sink.write(frame(encoder.encode(reply)))
        sink.flush()


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    with contextlib.suppress(OSError, ValueError):  # macOS has no such limit
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not print into the frames
    with contextlib.suppress(BrokenPipeError):
        serve(sys.stdin.buffer, sink, float(sys.argv[1]))


if __name__ == "__main__":
    main()
