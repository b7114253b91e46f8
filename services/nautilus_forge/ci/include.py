"""`include`: other files laid under this one.

Each file is read with its own inputs, has its own includes carried out first, and is merged in the order given; the
including file wins. Nothing here reads anything itself: texts come from the context.

Source: lib/gitlab/ci/config/external/{mapper,processor}.rb, mapper/*.rb, file/{base,local,project,template}.rb.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nautilus_forge.ci import document, inputs
from nautilus_forge.ci.budget import Budget
from nautilus_forge.ci.entries.checks import Problems, Spot, check_keys, refuse
from nautilus_forge.ci.entries.keywords import INCLUDE
from nautilus_forge.ci.entries.rules import INCLUDE_RULES, RuleReader
from nautilus_forge.ci.expression import Patterns
from nautilus_forge.ci.glob import Glob
from nautilus_forge.ci.interpolation import MAX_GROWTH_CHARS
from nautilus_forge.ci.merging import deep_merge
from nautilus_forge.ci.model import (
    CiConfigError,
    ConfigError,
    Context,
    IncludedFile,
    ProjectNotReadable,
    RefNotFound,
)
from nautilus_forge.ci.regex import InvalidRegex
from nautilus_forge.ci.rules import InvalidRule, RuleEvaluator
from nautilus_forge.ci.scalars import to_text
from nautilus_forge.ci.values import YamlMap, error_at, place_of
from nautilus_forge.ci.variables import expand

MAX_INCLUDES = 150
MAX_TOTAL_CHARS = 3_000_000
_KINDS = ("local", "project", "remote", "template", "artifact", "component")
_YAML = re.compile(r"[^/]+\.(?:yml|yaml)\Z", re.IGNORECASE)
_URL = re.compile(r"(?:https?|ftp|git|ssh)://", re.IGNORECASE)
_TEMPLATE_SUFFIX = ".gitlab-ci.yml"


@dataclass(frozen=True, slots=True)
class Source:
    """Where the file that is being read comes from: `project` None is the pipeline's own."""

    project: str | None = None
    ref: str | None = None
    file: str = ".gitlab-ci.yml"


@dataclass(frozen=True, slots=True)
class Wanted:
    """One file to include."""

    source: Source
    kind: str
    given: Mapping[str, Any]
    spot: Spot


class Includer:
    """Carries out the includes of one compilation."""

    def __init__(self, context: Context, budget: Budget, merges: Budget, problems: Problems) -> None:
        self._context = context
        self._budget = budget
        self._merges = merges
        self._problems = problems
        self._variables = {**context.predefined, **context.variables}
        self._rules = RuleReader(problems, Patterns(budget))
        self._evaluator = RuleEvaluator(
            context.changed_paths, context.existing_paths, budget, context.changed_since
        )
        self._chars = 0
        self._growth = Budget(MAX_GROWTH_CHARS)
        self.has_references = False
        self.files: list[IncludedFile] = []

    def load_main(self, text: str) -> YamlMap:
        """The whole configuration that starts with this text. Raises `CiConfigError`, `BudgetExhausted`."""
        file = self._context.file
        self.has_references = "!reference" in text
        documents = document.load(text, file, self._problems.warnings)
        try:
            content = inputs.fill(
                documents, self._context.inputs, self._variables, self._budget, self._growth
            )
        except inputs.InvalidInputs as error:
            raise CiConfigError([error_at(str(error), (file, 1, 1))]) from error
        if not isinstance(content, YamlMap):
            raise CiConfigError([ConfigError("Invalid configuration format", 1, 1, file)])
        merged = self._expand(content, Source(file=file))
        if self._problems.errors:
            raise CiConfigError(self._problems.errors)
        return merged

    def _expand(self, content: YamlMap, source: Source) -> YamlMap:
        """The content with its includes laid under it."""
        if "include" not in content:
            return content
        spot = Spot("include", place_of(content, "include"))
        own = content.duplicate()
        entries = own.pop("include")
        merged: Any = YamlMap()
        for wanted in self._wanted(entries, spot, source):
            included = self._load(wanted)
            if included is not None:
                merged = deep_merge(merged, included, self._merges)
        result: YamlMap = deep_merge(merged, own, self._merges)
        return result

    def _wanted(self, entries: Any, spot: Spot, source: Source) -> list[Wanted]:
        items = entries if isinstance(entries, list) else [entries] if entries is not None else []
        wanted: list[Wanted] = []
        for index, entry in enumerate(items):
            at = Spot("include", place_of(items, index) or spot.place)
            wanted += self._wanted_of(entry, at, source)
        return wanted

    def _wanted_of(self, entry: Any, spot: Spot, source: Source) -> list[Wanted]:
        problems = self._problems
        if isinstance(entry, str):
            location = self._expanded(entry)
            entry = YamlMap()
            entry["remote" if _URL.match(location) else "local"] = location
        if not isinstance(entry, YamlMap):
            problems.add("Each include must be a hash or a string", spot.place)
            return []
        kinds = [kind for kind in _KINDS if entry.get(kind)]
        if not kinds:
            shown = json.dumps(entry, default=str, separators=(",", ":"), ensure_ascii=False)
            valid = "`, `".join(_KINDS)
            problems.add(
                f"`{shown}` does not have a valid subkey for include. Valid subkeys are: `{valid}`",
                spot.place,
            )
            return []
        if len(kinds) > 1:
            problems.add(f"Each include must use only one of: `{'`, `'.join(_KINDS)}`", spot.place)
            return []
        before = len(problems.errors)
        check_keys(entry, INCLUDE, spot, problems)
        rules = self._rules.read(entry, spot, INCLUDE_RULES) if "rules" in entry else None
        if len(problems.errors) > before:
            return []
        if rules is not None:
            try:
                match = self._evaluator.first_match(rules, self._variables)
            except InvalidRule as error:
                problems.add(f"include:{error}", spot.place)
                return []
            if match is None or match.when == "never":
                return []
        return self._located(entry, kinds[0], spot, source)

    def _located(self, entry: YamlMap, kind: str, spot: Spot, source: Source) -> list[Wanted]:
        given = entry.get("inputs")
        if given is not None and not isinstance(given, dict):
            self._problems.add("include:inputs config should be a hash", spot.place)
            return []
        if kind == "project" and not entry.get("file"):
            message = "include config must specify the file where to fetch the config from"
            self._problems.add(message, spot.place)
            return []
        value = entry["file"] if kind == "project" else entry[kind]
        locations = value if isinstance(value, list) and kind == "project" else [value]
        wanted: list[Wanted] = []
        for location in locations:
            for found in self._sources(location, kind, entry, spot, source):
                wanted.append(Wanted(found, kind, given or {}, spot))
        return wanted

    def _sources(self, value: Any, kind: str, entry: YamlMap, spot: Spot, source: Source) -> list[Source]:
        if not isinstance(value, str):
            self._problems.add(f"Included file `{to_text(value)}` needs to be a string", spot.place)
            return []
        path = self._expanded(value)
        if kind == "template":
            return [Source(file=path)]
        path = path.lstrip("/")
        if kind == "project":
            ref = self._expanded(to_text(entry["ref"])) if entry.get("ref") is not None else None
            return [Source(self._expanded(to_text(entry["project"])).lower(), ref, path)]
        if "*" in path:
            return self._globbed(path, spot, source)
        return [Source(source.project, source.ref, path)]

    def _globbed(self, pattern: str, spot: Spot, source: Source) -> list[Source]:
        if source.project is not None:
            refuse(
                Spot("include:local with a wildcard in a file of another project", spot.place), self._problems
            )
            return []
        try:
            glob = Glob(pattern)
        except InvalidRegex:
            self._problems.add(f"Local file `{pattern}` does not exist!", spot.place)
            return []
        paths = sorted(path for path in self._context.existing_paths if glob.matches(path, self._budget))
        return [Source(None, None, path) for path in paths]

    def _load(self, wanted: Wanted) -> YamlMap | None:
        """The file with its own includes carried out; None (and a problem) where it cannot be had."""
        source, place = wanted.source, wanted.spot.place
        if len(self.files) >= MAX_INCLUDES:
            message = f"Maximum of {MAX_INCLUDES} nested includes are allowed!"
            raise CiConfigError([error_at(message, place, self._context.file)])
        location_type = {"project": "file"}.get(wanted.kind, wanted.kind)
        self.files.append(IncludedFile(location_type, source.file, source.project, source.ref))
        text = self._text(wanted)
        if text is None:
            return None
        self._chars += len(text)
        if self._chars > MAX_TOTAL_CHARS:
            message = "Total size of combined CI/CD configuration is too big"
            raise CiConfigError([error_at(message, place, self._context.file)])
        self.has_references = self.has_references or "!reference" in text
        content = self._content(text, wanted)
        return None if content is None else self._expand(content, source)

    def _content(self, text: str, wanted: Wanted) -> YamlMap | None:
        file = wanted.source.file
        try:
            documents = document.load(text, file, self._problems.warnings)
            content = inputs.fill(documents, wanted.given, self._variables, self._budget, self._growth)
        except CiConfigError as error:
            for one in error.errors:
                place = (one.file, one.line, one.column or 1) if one.line is not None else wanted.spot.place
                self._problems.add(f"`{file}`: {one.message}", place)
            return None
        except inputs.InvalidInputs as error:
            self._problems.add(f"`{file}`: {error}", wanted.spot.place)
            return None
        if not isinstance(content, YamlMap) or not content:
            self._problems.add(f"Included file `{file}` does not have valid YAML syntax!", wanted.spot.place)
            return None
        return content

    def _text(self, wanted: Wanted) -> str | None:
        source = wanted.source
        problem = None
        if not _YAML.search(source.file):
            problem = f"Included file `{source.file}` does not have YAML extension!"
        elif wanted.kind == "template" and not source.file.endswith(_TEMPLATE_SUFFIX):
            problem = f"Template file `{source.file}` is not a valid location!"
        if problem is None:
            text, problem = self._fetched(wanted)
            if problem is None:
                return text
        self._problems.add(problem, wanted.spot.place)
        return None

    def _fetched(self, wanted: Wanted) -> tuple[str, str | None]:
        """The text, and what is wrong where there is none."""
        source = wanted.source
        missing = _missing(wanted)
        try:
            text = self._read(wanted.kind, source)
        except FileNotFoundError:
            return "", f"{missing} {'is empty or ' * (wanted.kind == 'template')}does not exist!"
        except ProjectNotReadable:
            return "", (
                f"Project `{source.project}` not found or access denied! "
                "Make sure any includes in the pipeline configuration are correctly defined."
            )
        except RefNotFound:
            return "", f"Project `{source.project}` reference `{source.ref or 'HEAD'}` does not exist!"
        if not text.strip():
            return "", f"{missing} is empty!"
        return text, None

    def _read(self, kind: str, source: Source) -> str:
        context = self._context
        if ".." not in source.file.split("/"):
            if kind == "template" and context.template is not None:
                return context.template(source.file)
            if kind != "template" and context.read_file is not None:
                return context.read_file(source.project, source.file, source.ref)
        raise FileNotFoundError(source.file)

    def _expanded(self, text: str) -> str:
        return expand(text, self._variables, keep_unknown=False)


def _missing(wanted: Wanted) -> str:
    source = wanted.source
    if wanted.kind == "template":
        return f"Included file `{source.file}`"
    if source.project is not None:
        return f"Project `{source.project}` file `{source.file}`"
    return f"Local file `{source.file}`"
