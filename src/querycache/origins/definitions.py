"""What a syntax node defines, and under which name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

MAX_NAME = 100  # characters


class Node(Protocol):
    """What the splitter asks of a node of a syntax tree (tree-sitter's has more)."""

    @property
    def type(self) -> str: ...
    @property
    def start_byte(self) -> int: ...
    @property
    def end_byte(self) -> int: ...
    @property
    def is_named(self) -> bool: ...
    @property
    def text(self) -> bytes | None: ...
    @property
    def children(self) -> Sequence[Node]: ...
    @property
    def named_children(self) -> Sequence[Node]: ...
    def child_by_field_name(self, name: str, /) -> Node | None: ...


COMMENTS = frozenset({"attribute_item", "block_comment", "comment", "doc_comment", "line_comment"})
"""Nodes that belong to the definition after them."""

_FUNCTIONS = frozenset(
    {"arrow_function", "class", "function_expression", "generator_function", "function"}
)

# How to find the name of a definition: the field "name"; along "declarator" fields; the first
# child that defines something ("wrap", which adds no level of its own); or one of `_name`'s cases.
_SCRIPT = {
    "abstract_class_declaration": "name",
    "assignment_expression": "assigned",
    "class_declaration": "name",
    "enum_declaration": "name",
    "export_statement": "wrap",
    "expression_statement": "wrap",
    "field_definition": "value",
    "function_declaration": "name",
    "function_signature": "name",
    "generator_function_declaration": "name",
    "interface_declaration": "name",
    "internal_module": "name",
    "lexical_declaration": "wrap",
    "method_definition": "name",
    "module": "name",
    "public_field_definition": "value",
    "type_alias_declaration": "name",
    "variable_declaration": "wrap",
    "variable_declarator": "value",
}
_C = {
    "enum_specifier": "body",
    "function_definition": "declarator",
    "struct_specifier": "body",
    "type_definition": "declarator",
    "union_specifier": "body",
}
_RULES: Mapping[str, Mapping[str, str]] = {
    "bash": {"function_definition": "name"},
    "c": _C,
    "cpp": {
        **_C,
        "class_specifier": "body",
        "concept_definition": "name",
        "namespace_definition": "name",
        "template_declaration": "wrap",
    },
    "csharp": dict.fromkeys(
        [
            "class_declaration",
            "constructor_declaration",
            "delegate_declaration",
            "destructor_declaration",
            "enum_declaration",
            "interface_declaration",
            "method_declaration",
            "namespace_declaration",
            "property_declaration",
            "record_declaration",
            "struct_declaration",
        ],
        "name",
    ),
    "css": {"keyframes_statement": "prelude", "media_statement": "prelude", "rule_set": "prelude"},
    "go": {
        "function_declaration": "name",
        "method_declaration": "receiver",
        "type_declaration": "wrap",
        "type_spec": "name",
    },
    "html": {"element": "id", "script_element": "id", "style_element": "id"},
    "java": dict.fromkeys(
        [
            "annotation_type_declaration",
            "class_declaration",
            "compact_constructor_declaration",
            "constructor_declaration",
            "enum_declaration",
            "interface_declaration",
            "method_declaration",
            "record_declaration",
        ],
        "name",
    ),
    "javascript": _SCRIPT,
    "json": {"pair": "key"},
    "markdown": {"section": "heading", "setext_heading": "heading"},
    "php": dict.fromkeys(
        [
            "class_declaration",
            "enum_declaration",
            "function_definition",
            "interface_declaration",
            "method_declaration",
            "trait_declaration",
        ],
        "name",
    ),
    "python": {
        "class_definition": "name",
        "decorated_definition": "wrap",
        "function_definition": "name",
    },
    "ruby": dict.fromkeys(["class", "method", "module", "singleton_method"], "name"),
    "rust": {
        "enum_item": "name",
        "function_item": "name",
        "impl_item": "type",
        "macro_definition": "name",
        "mod_item": "name",
        "struct_item": "name",
        "trait_item": "name",
        "union_item": "name",
    },
    "toml": {"table": "first", "table_array_element": "first"},
    "tsx": _SCRIPT,
    "typescript": _SCRIPT,
    "yaml": {"block_mapping_pair": "key"},
}


class Definitions:
    """The definitions of one language."""

    def __init__(self, language: str) -> None:
        self._rules = _RULES.get(language, {})

    def wraps(self, node: Node) -> bool:
        """Whether the node only carries a definition: decorators, `export`, `template <…>`."""
        return self._rules.get(node.type) == "wrap"

    def name(self, node: Node) -> str:
        """The name that a node defines, "" where it defines nothing."""
        rule = self._rules.get(node.type)
        if rule is None:
            return ""
        if rule == "wrap":
            inner = (self.name(child) for child in node.named_children[:8])
            return next(filter(None, inner), "")
        return _tidy(_name(rule, node))


def _name(rule: str, node: Node) -> str:  # noqa: C901, PLR0911 -- one line for each rule
    match rule:
        case "name" | "type" | "key":
            return _text(node.child_by_field_name(rule)).strip("\"'")
        case "body":
            return _text(node.child_by_field_name("name")) if _has_body(node) else ""
        case "declarator":
            return _text(_declared(node))
        case "value":
            return _text(_key(node)) if _is_function(node, "value") else ""
        case "assigned":
            return _text(node.child_by_field_name("left")) if _is_function(node, "right") else ""
        case "receiver":
            return f"{_receiver(node)}.{_text(node.child_by_field_name('name'))}"
        case "first":
            return _text(next(iter(node.named_children), None))
        case "prelude":
            return _text(node).partition("{")[0]
        case "heading":
            return _heading(node)
        case _:
            return _html_id(node)


def _text(node: Node | None) -> str:
    if node is None:
        return ""
    return (node.text or b"")[: 4 * MAX_NAME].decode("utf-8", "replace")


def _tidy(name: str) -> str:
    return " ".join(name.replace("::", ".").split())[:MAX_NAME]


def _has_body(node: Node) -> bool:
    return node.child_by_field_name("body") is not None


def _key(node: Node) -> Node | None:
    return node.child_by_field_name("name") or node.child_by_field_name("property")


def _is_function(node: Node, field: str) -> bool:
    value = node.child_by_field_name(field)
    return value is not None and value.type in _FUNCTIONS


def _declared(node: Node) -> Node | None:
    found = node.child_by_field_name("declarator")
    while found is not None and (deeper := found.child_by_field_name("declarator")) is not None:
        found = deeper
    if found is not None and found.type == "reference_declarator" and found.named_children:
        return _declared_in(found.named_children[0])
    return found


def _declared_in(node: Node) -> Node:
    deeper = node.child_by_field_name("declarator")
    return deeper if deeper is not None else node


def _receiver(node: Node) -> str:
    """The type of a Go method's receiver: `T` of `(t *T[K])`."""
    declared = _text(node.child_by_field_name("receiver")).strip("() ").partition("[")[0]
    return declared.rpartition(" ")[2].rpartition("*")[2]


def _heading(node: Node) -> str:
    for heading in (node, *node.named_children[:1]):
        if heading.type.endswith("_heading"):
            return _text(heading.child_by_field_name("heading_content"))
    return ""


def _html_id(node: Node) -> str:
    for tag in node.named_children[:1]:
        for attribute in tag.named_children[1:]:
            name, _, value = _text(attribute).partition("=")
            if name.strip().lower() == "id":
                return value.strip(" \"'")
    return ""
