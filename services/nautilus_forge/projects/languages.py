"""Which languages a repository is written in: by the names of its files, weighed by their bytes.

As linguist, only programming and markup languages count, and not what is vendored, generated or documentation.
Source: https://github.com/github-linguist/linguist (lib/linguist/{languages,vendor,documentation}.yml), of which this
knows the common part; gitlabhq app/services/projects/detect_repository_languages_service.rb.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from posixpath import basename, splitext

from nautilus_forge.git.command import Git
from nautilus_forge.git.refs import ZERO_SHA, ref_sha

MOST_LANGUAGES = 5
"""Source: `Projects::DetectRepositoryLanguagesService` keeps the five largest."""

_BY_EXTENSION = {
    extension: language
    for language, extensions in {
        "Assembly": ".asm .nasm",
        "Awk": ".awk .gawk",
        "Batchfile": ".bat .cmd",
        "C": ".c .h .cats .idc",
        "C#": ".cs .csx .cake",
        "C++": ".cpp .cc .cxx .c++ .hpp .hh .hxx .ipp .tpp .inl",
        "CMake": ".cmake",
        "COBOL": ".cob .cbl .cobol",
        "CSS": ".css",
        "Clojure": ".clj .cljs .cljc .boot",
        "CoffeeScript": ".coffee",
        "Common Lisp": ".lisp .lsp",
        "Crystal": ".cr",
        "Cuda": ".cu .cuh",
        "Cython": ".pyx .pxd .pxi",
        "D": ".d .di",
        "Dart": ".dart",
        "Elixir": ".ex .exs",
        "Elm": ".elm",
        "Emacs Lisp": ".el",
        "Erlang": ".erl .hrl",
        "F#": ".fs .fsi .fsx",
        "Fortran": ".f .for .f77 .f90 .f95 .f03 .f08",
        "GLSL": ".glsl .frag .vert .geom",
        "Go": ".go",
        "Groovy": ".groovy .gvy .grt",
        "HCL": ".tf .hcl .tfvars",
        "HTML": ".html .htm .xhtml",
        "Haskell": ".hs .hsc",
        "Java": ".java .jav",
        "JavaScript": ".js .mjs .cjs .jsx .es6",
        "Jinja": ".jinja .jinja2 .j2",
        "Julia": ".jl",
        "Jupyter Notebook": ".ipynb",
        "Kotlin": ".kt .kts .ktm",
        "Less": ".less",
        "Lua": ".lua",
        "MATLAB": ".matlab .m",
        "Makefile": ".mk .mak .make",
        "Mojo": ".mojo",
        "Nim": ".nim .nims",
        "Nix": ".nix",
        "OCaml": ".ml .mli .mll .mly",
        "Objective-C++": ".mm",
        "PHP": ".php .phtml .php3 .php4 .php5",
        "PLpgSQL": ".pgsql",
        "Pascal": ".pas .dpr .lpr",
        "Perl": ".pl .pm .perl",
        "PowerShell": ".ps1 .psm1 .psd1",
        "Prolog": ".pro .prolog",
        "Python": ".py .pyi .pyw .py3 .wsgi",
        "R": ".r .rmd .rsx",
        "Ruby": ".rb .rake .gemspec .ru .podspec",
        "Rust": ".rs",
        "SCSS": ".scss",
        "Sass": ".sass",
        "Scala": ".scala .sbt .sc",
        "Scheme": ".scm .ss",
        "Shell": ".sh .bash .zsh .ksh .bats",
        "Smarty": ".tpl",
        "Solidity": ".sol",
        "Starlark": ".bzl .star",
        "Stan": ".stan",
        "Svelte": ".svelte",
        "Swift": ".swift",
        "SystemVerilog": ".sv .svh",
        "TeX": ".tex .sty .cls .bib",
        "TypeScript": ".ts .tsx .mts .cts",
        "VHDL": ".vhd .vhdl",
        "Verilog": ".v .veo",
        "Vim Script": ".vim .vimrc",
        "Vue": ".vue",
        "XSLT": ".xsl .xslt",
        "Zig": ".zig",
    }.items()
    for extension in extensions.split()
}
_BY_NAME = {
    "Dockerfile": "Dockerfile",
    "Containerfile": "Dockerfile",
    "Makefile": "Makefile",
    "makefile": "Makefile",
    "GNUmakefile": "Makefile",
    "CMakeLists.txt": "CMake",
    "Rakefile": "Ruby",
    "Gemfile": "Ruby",
    "Vagrantfile": "Ruby",
    "Jenkinsfile": "Groovy",
    "Snakefile": "Python",
    "SConstruct": "Python",
    "BUILD.bazel": "Starlark",
    "meson.build": "Meson",
    "Justfile": "Just",
    "justfile": "Just",
}
_NOT_COUNTED = re.compile(
    r"(^|/)(node_modules|vendor|vendors|third[-_]?party|dist|\.venv|venv|site-packages|bower_components|Godeps|"
    r"docs?|[Dd]ocumentation|[Ee]xamples?|[Jj]avadoc|cache|extern(al)?)/"
    r"|\.min\.(js|css)$|[-.]bundle\.js$|(^|/)jquery[^/]*\.js$|_pb2(_grpc)?\.py$|\.pb\.(go|cc|h)$|\.designer\.cs$"
)


def language_of(path: str) -> str | None:
    """The language of a file; None where it has none that counts."""
    if _NOT_COUNTED.search(path):
        return None
    name = basename(path)
    by_name = _BY_NAME.get(name) or ("Dockerfile" if name.startswith("Dockerfile.") else None)
    return by_name or _BY_EXTENSION.get(splitext(name)[1].lower())


def shares(files: Iterable[tuple[str, int]]) -> dict[str, float]:
    """Percent by language, two decimals, the largest first; of (path, bytes)."""
    sizes: dict[str, int] = {}
    for path, size in files:
        language = language_of(path)
        if language is not None and size:
            sizes[language] = sizes.get(language, 0) + size
    total = sum(sizes.values())
    largest = sorted(sizes.items(), key=lambda pair: (-pair[1], pair[0]))[:MOST_LANGUAGES]
    return {language: round(100 * size / total, 2) for language, size in largest}


async def count(git: Git, branch: str) -> tuple[str, dict[str, float]]:
    """The branch's commit (`ZERO_SHA` for none) and the shares of its files; links and submodules do not count."""
    sha = await ref_sha(git, f"refs/heads/{branch}")
    if sha == ZERO_SHA:
        return sha, {}
    output = await git.output("ls-tree", "-r", "-z", "-l", sha)
    return sha, shares(_files(output))


def _files(output: bytes) -> Iterable[tuple[str, int]]:
    for record in output.split(b"\0"):
        head, _, path = record.partition(b"\t")
        parts = head.split()
        if len(parts) == 4 and parts[0] in (b"100644", b"100755"):
            yield path.decode("utf-8", "replace"), int(parts[3])
