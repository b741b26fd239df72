"""Requests made from the OpenAPI description get answers that the description knows, and no fault of the server."""

from __future__ import annotations

import pytest

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")

CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")


ENDPOINTS = [
    ("POST", "/predict"),
    ("POST", "/feature-maps"),
    ("GET", "/structure"),
    ("GET", "/models"),
    ("GET", "/healthz"),
]


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_answers_are_as_described(address, method, path):
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    checks = [schemathesis.checks.CHECKS.get_one(name) for name in CHECKS]
    seen = set()

    @hypothesis.settings(
        max_examples={"/predict": 60, "/feature-maps": 30}.get(path, 5), deadline=None, database=None, derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(case=schema[path][method].as_strategy())
    def ask(case):
        answer = case.call(base_url=address)
        case.validate_response(answer, checks=checks)
        seen.add(case.media_type)

    ask()
    if method == "POST":
        assert seen == {"application/json", "application/octet-stream", "multipart/form-data"}
