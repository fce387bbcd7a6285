"""Queries are read as Starlette reads them, by the short way or the long one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from app.bodies import JsonRequest

characters = st.text(st.sampled_from("ab1-._~&=;+%2C?/"), max_size=24)


@given(characters)
@pytest.mark.parametrize("before", ["", "a=1&", "limit=20&cursor=WyIx.k1.0f&"])
def test_a_query_is_read_as_starlette_reads_it(before: str, query: str) -> None:
    raw = (before + query).encode()
    request = JsonRequest({"type": "http", "query_string": raw, "headers": []})
    assert request.pairs == QueryParams(raw).multi_items()
