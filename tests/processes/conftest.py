"""A yard for one test, or for all tests of a file; both find what was left behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from processes.yard import Yard


@pytest.fixture
def yard() -> Iterator[Yard]:
    made = Yard()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def shared_yard() -> Iterator[Yard]:
    made = Yard()
    try:
        yield made
    finally:
        made.close()
