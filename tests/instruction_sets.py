"""The instruction sets of the native library, each in turn."""

from collections.abc import Iterator

import pytest

from transpike.engines.native import library as _native

LIBRARY, _ = _native.load()


def _chosen(request) -> Iterator[None]:
    chosen = LIBRARY.tp_instructions()
    if not LIBRARY.tp_force(request.param.encode()):
        pytest.skip(f"this machine has no {request.param}")
    yield
    assert LIBRARY.tp_force(chosen)


instructions = pytest.fixture(params=("baseline", "AVX2", "AVX-512"), scope="module", autouse=True)(_chosen)
with_and_without_vnni = pytest.fixture(
    params=("baseline", "AVX2", "AVX-512 without VNNI", "AVX-512"), scope="module", autouse=True
)(_chosen)
