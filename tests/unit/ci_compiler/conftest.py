"""Compiling in one line: `compiled(text, …)` gives the pipeline, `mistakes(text, …)` what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nautilus_forge.ci.compiler import compile_pipeline
from nautilus_forge.ci.model import CiConfigError, CompiledPipeline, ConfigError
from nautilus_forge.testing.ci_context import context_of


@pytest.fixture
def compiled() -> Callable[..., CompiledPipeline]:
    """The pipeline of a text on a push to main (or in the context that the keywords describe)."""
    return lambda text, **more: compile_pipeline(text, context_of(**more))


@pytest.fixture
def mistakes() -> Callable[..., list[ConfigError]]:
    """What is wrong with a text; fails where nothing is."""

    def find(text: str, **more: Any) -> list[ConfigError]:
        with pytest.raises(CiConfigError) as caught:
            compile_pipeline(text, context_of(**more))
        return list(caught.value.errors)

    return find


@pytest.fixture
def messages(mistakes: Callable[..., list[ConfigError]]) -> Callable[..., list[str]]:
    """The messages alone."""
    return lambda text, **more: [mistake.message for mistake in mistakes(text, **more)]
