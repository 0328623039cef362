from __future__ import annotations

from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest

from stepstream.native import find_native

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", params=["python", *(["native"] if find_native() else [])])
def each_decoder(request: pytest.FixtureRequest) -> Iterator[None]:
    """A module's tests run with Python's decoders, and with the compiled one if it is there."""
    if request.param == "native":
        yield
        return
    with patch("stepstream.inputs.native_json.find_native", return_value=None):
        yield
