"""Definitions have the names that a reader would call them by."""

from __future__ import annotations

import pytest

from querycache.origins.chunking import SMALL, chunks_of
from querycache.origins.parser_worker import cut

PAD = "x" * SMALL  # makes a definition worth a chunk of its own

SAMPLES: dict[str, tuple[str, list[str]]] = {
    "python": (
        f'''
import os

@decorated
def first(a):
    return "{PAD}"

class Outer:
    """{PAD * 4}"""

    def method(self):
        return "{PAD * 4}"

    async def other(self):
        return "{PAD}"
''',
        ["first", "Outer", "Outer.method", "Outer.other"],
    ),
    "javascript": (
        f"""
export const arrow = async () => {{ return "{PAD}" }}
exports.assigned = function () {{ return "{PAD}" }}
export default class Shape {{
  constructor() {{ this.a = "{PAD * 4}" }}
  area() {{ return "{PAD * 4}" }}
  handler = () => {{ return "{PAD}" }}
}}
function View() {{ return <div className="{PAD}" /> }}
""",
        ["arrow", "exports.assigned", "Shape", "Shape.area", "Shape.handler", "View"],
    ),
    "typescript": (
        f"""
export interface Point {{ x: "{PAD}" }}
type Alias = "{PAD}"
enum Colour {{ Red = "{PAD}" }}
namespace Space {{ export function inner(): string {{ return "{PAD}" }} }}
abstract class Base<T> {{
  run(): T {{ return "{PAD * 4}" as T }}
}}
""",
        ["Point", "Alias", "Colour", "Space", "Base"],
    ),
    "tsx": (
        f"""
export function App(): JSX.Element {{ return <p title="{PAD}">hi</p> }}
const Other = () => <p>{PAD}</p>
""",
        ["App", "Other"],
    ),
    "go": (
        f"""
package p

type Server struct {{ name string `{PAD}` }}

func (s *Server[T]) Serve() string {{ return "{PAD}" }}

func Run() string {{ return "{PAD}" }}
""",
        ["Server", "Server.Serve", "Run"],
    ),
    "rust": (
        f"""
/// Documented.
#[derive(Debug)]
struct Point {{ {PAD}: u8 }}

impl<T> Shape for Point {{
    fn area(&self) -> &str {{ "{PAD * 4}" }}
    fn name(&self) -> &str {{ "{PAD * 4}" }}
}}
mod inner {{ fn f() -> &'static str {{ "{PAD}" }} }}
macro_rules! shout {{ () => {{ "{PAD}" }} }}
""",
        ["Point", "Point", "Point.name", "inner", "shout"],
    ),
    "java": (
        f"""
package p;
@Marked
public class Shape {{
  Shape() {{ this.a = "{PAD * 4}"; }}
  String area() {{ return "{PAD * 4}"; }}
}}
record Pair(String {PAD}) {{}}
""",
        ["Shape", "Shape.area", "Pair"],
    ),
    "c": (
        f"""
#include <stdio.h>
struct point {{ int {PAD}; }};
static char *name_of(struct point *p) {{ return "{PAD}"; }}
typedef struct {{ int {PAD}; }} pair;
""",
        ["point", "name_of", "pair"],
    ),
    "cpp": (
        f"""
namespace shapes {{
template <class T> class Shape {{
  const char *area() {{ return "{PAD * 4}"; }}
  const char *name() {{ return "{PAD * 4}"; }}
}};
}}
const char &Shape::edge() const {{ return "{PAD}"; }}
Shape::~Shape() {{ free("{PAD}"); }}
""",
        ["shapes", "shapes.Shape.name", "Shape.edge", "Shape.~Shape"],
    ),
    "csharp": (
        f"""
namespace A.B {{
  public class Shape<T> {{
    public string Area() {{ return "{PAD * 4}"; }}
    public string Name {{ get {{ return "{PAD * 4}"; }} }}
  }}
}}
record Pair(string {PAD});
""",
        ["A.B", "A.B.Shape.Name", "Pair"],
    ),
    "ruby": (
        f"""
module Shapes
  class Shape
    def area
      "{PAD * 4}"
    end

    def self.edge?
      "{PAD * 4}"
    end
  end
end
""",
        ["Shapes", "Shapes.Shape.edge?"],
    ),
    "php": (
        f"""<?php
namespace A\\B;
class Shape {{
  public function area() {{ return "{PAD * 4}"; }}
  public function name() {{ return "{PAD * 4}"; }}
}}
function helper() {{ return "{PAD}"; }}
""",
        ["Shape", "Shape.name", "helper"],
    ),
    "bash": (
        f"""#!/bin/sh
first() {{ echo "{PAD}"; }}
function second {{ echo "{PAD}"; }}
""",
        ["first", "second"],
    ),
    "html": (
        f"""<html><body>
<div id="first"><p>{PAD * 4}</p></div>
<section id='second'><p>{PAD * 4}</p></section>
</body></html>
""",
        ["first", "second"],
    ),
    "css": (
        f"""
.first, #one {{ background: url({PAD}) }}
@media (min-width: 10px) {{ p {{ background: url({PAD}) }} }}
@keyframes spin {{ from {{ background: url({PAD}) }} }}
""",
        [".first, #one", "@media (min-width: 10px)", "@keyframes spin"],
    ),
    "json": (
        f'{{\n  "first": "{PAD * 4}",\n  "second": {{"inner": "{PAD * 4}"}}\n}}\n',
        ["first", "second"],
    ),
    "yaml": (
        f"first: {PAD}\nsecond:\n  inner: {PAD}\n",
        ["first", "second"],
    ),
    "toml": (
        f'a = 1\n[first]\nb = "{PAD}"\n[second.inner]\nc = "{PAD}"\n[[third]]\nd = "{PAD}"\n',
        ["first", "second.inner", "third"],
    ),
    "markdown": (
        f"# Title\n\n{PAD}\n\n## Part `one`\n\n{PAD * 4}\n\n## Two\n\n{PAD * 4}\n",
        ["Title", "Title.Part `one`", "Title.Two"],
    ),
}


@pytest.mark.parametrize("language", SAMPLES)
def test_symbols_are_the_dotted_paths_of_definitions(language: str):
    text, expected = SAMPLES[language]
    data = text.encode()
    reply = cut(language, data)
    assert not reply.had_errors
    assert [chunk.symbol for chunk in chunks_of(data, reply.cuts)] == expected


def test_a_comment_belongs_to_the_definition_under_it():
    data = f'a = "{PAD}"\n\n# Says why.\n# At length.\ndef f():\n    return "{PAD}"\n'.encode()
    last = chunks_of(data, cut("python", data).cuts)[-1]
    assert last.text.startswith("# Says why.")
    assert last.symbol == "f"
    assert (last.start_line, last.end_line) == (3, 6)


def test_a_path_has_a_bounded_depth_and_names_a_bounded_length():
    name = "n" * 1_000
    depth = 60
    data = ("{" + f'"{name}":' + "{" + f'"{PAD}":').encode() * depth + b"1" + b"}}" * depth
    symbols = [chunk.symbol for chunk in chunks_of(data, cut("json", data).cuts)]
    assert max(symbol.count(".") for symbol in symbols) == 7
    assert max(map(len, symbols)) <= 8 * 101
