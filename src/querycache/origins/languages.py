"""Which language a file is in, by its name, and which grammar reads it."""

from __future__ import annotations

from typing import NamedTuple


class Grammar(NamedTuple):
    """Where a grammar comes from: a module of a `tree-sitter-*` wheel and its function."""

    module: str
    function: str = "language"

    @property
    def distribution(self) -> str:
        return self.module.replace("_", "-")


GRAMMARS = {
    "bash": Grammar("tree_sitter_bash"),
    "c": Grammar("tree_sitter_c"),
    "cpp": Grammar("tree_sitter_cpp"),
    "csharp": Grammar("tree_sitter_c_sharp"),
    "css": Grammar("tree_sitter_css"),
    "go": Grammar("tree_sitter_go"),
    "html": Grammar("tree_sitter_html"),
    "java": Grammar("tree_sitter_java"),
    "javascript": Grammar("tree_sitter_javascript"),
    "json": Grammar("tree_sitter_json"),
    "markdown": Grammar("tree_sitter_markdown"),
    "php": Grammar("tree_sitter_php", "language_php"),
    "python": Grammar("tree_sitter_python"),
    "ruby": Grammar("tree_sitter_ruby"),
    "rust": Grammar("tree_sitter_rust"),
    "toml": Grammar("tree_sitter_toml"),
    "tsx": Grammar("tree_sitter_typescript", "language_tsx"),
    "typescript": Grammar("tree_sitter_typescript", "language_typescript"),
    "yaml": Grammar("tree_sitter_yaml"),
}

_SUFFIXES = {
    "bash": "sh bash zsh ksh ebuild bats",
    "c": "c h",
    "cpp": "cc cpp cxx c++ hh hpp hxx h++ ipp tpp inl cu cuh",
    "csharp": "cs csx",
    "css": "css",
    "go": "go",
    "html": "html htm xhtml",
    "java": "java",
    "javascript": "js jsx mjs cjs es6",
    "json": "json jsonc json5 geojson webmanifest",
    "markdown": "md markdown mdx mkd",
    "php": "php php3 php4 php5 php8 phtml",
    "python": "py pyi pyw pyx pxd",
    "ruby": "rb rake gemspec ru",
    "rust": "rs",
    "toml": "toml",
    "tsx": "tsx",
    "typescript": "ts mts cts",
    "yaml": "yaml yml",
    # No grammar reads these: they have a name and are cut by lines.
    "assembly": "s asm",
    "batch": "bat cmd",
    "clojure": "clj cljs cljc edn",
    "cmake": "cmake",
    "dart": "dart",
    "dockerfile": "dockerfile",
    "elixir": "ex exs",
    "elm": "elm",
    "erlang": "erl hrl",
    "fortran": "f f90 f95 f03 f08",
    "fsharp": "fs fsi fsx",
    "graphql": "graphql gql",
    "groovy": "groovy gradle",
    "haskell": "hs lhs",
    "hcl": "tf tfvars hcl",
    "ini": "ini cfg conf properties editorconfig",
    "julia": "jl",
    "kotlin": "kt kts",
    "latex": "tex sty cls",
    "lua": "lua",
    "makefile": "mk mak",
    "nix": "nix",
    "objective-c": "m mm",
    "ocaml": "ml mli",
    "perl": "pl pm t",
    "powershell": "ps1 psm1 psd1",
    "protobuf": "proto",
    "r": "r rmd",
    "restructuredtext": "rst",
    "scala": "scala sc sbt",
    "scss": "scss sass less",
    "solidity": "sol",
    "sql": "sql",
    "svelte": "svelte",
    "swift": "swift",
    "vim": "vim",
    "vue": "vue",
    "xml": "xml xsd xsl xslt svg plist csproj fsproj vbproj props targets",
    "zig": "zig",
}

_NAMES = {
    "brewfile": "ruby",
    "build": "starlark",
    "build.bazel": "starlark",
    "cmakelists.txt": "cmake",
    "containerfile": "dockerfile",
    "dockerfile": "dockerfile",
    "gemfile": "ruby",
    "gnumakefile": "makefile",
    "go.mod": "gomod",
    "jenkinsfile": "groovy",
    "justfile": "just",
    "makefile": "makefile",
    "pipfile": "toml",
    "podfile": "ruby",
    "rakefile": "ruby",
    "vagrantfile": "ruby",
    "workspace": "starlark",
    ".babelrc": "json",
    ".bash_profile": "bash",
    ".bashrc": "bash",
    ".editorconfig": "ini",
    ".gitconfig": "ini",
    ".profile": "bash",
    ".zshrc": "bash",
}

_OF_SUFFIX = {suffix: name for name, listed in _SUFFIXES.items() for suffix in listed.split()}


def language_of(path: str) -> str:
    """The language's lower-case name, "text" where the file's name tells none."""
    name = path.rpartition("/")[2].lower()
    if name in _NAMES:
        return _NAMES[name]
    stem, dot, suffix = name.rpartition(".")
    if stem in {"dockerfile", "makefile"}:  # Dockerfile.dev, Makefile.am
        return stem
    return _OF_SUFFIX.get(suffix, "text") if dot else "text"
