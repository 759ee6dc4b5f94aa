"""Fixtures of the tests of extraction."""

from __future__ import annotations

import pytest
from embedonce.extract.engines.native import why_not_native


@pytest.fixture(params=["native", "litert"])
def each_engine(request, monkeypatch):
    """Run a test with each engine as the choice of ``auto``, also in child processes."""
    if request.param == "native" and why_not_native():
        pytest.skip(why_not_native())
    monkeypatch.setenv("EMBEDONCE_ENGINE", request.param)
    return request.param
