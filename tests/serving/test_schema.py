"""Requests made from the OpenAPI description get answers that the description knows, and no fault of the server."""

from __future__ import annotations

import pytest
import requests

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")

CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")


ENDPOINTS = [
    ("POST", "/predict"),
    ("POST", "/feature-maps"),
    ("GET", "/structure"),
    ("POST", "/v2/models/{name}/infer"),
    ("GET", "/models"),
    ("GET", "/healthz"),
    ("GET", "/v2"),
    ("GET", "/v2/health/live"),
    ("GET", "/v2/health/ready"),
    ("GET", "/v2/models/{name}"),
    ("GET", "/v2/models/{name}/ready"),
]


def test_every_endpoint_but_the_page_is_described(address):
    described = requests.get(f"{address}/openapi.json").json()["paths"]
    found = {(method.upper(), path) for path, methods in described.items() for method in methods}
    assert {*ENDPOINTS, ("GET", "/metrics")} <= found
    for path in described.values():
        for operation in path.values():
            assert operation["responses"]["200"]["content"]
            assert operation["description"]


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
        forms = {"application/json", "application/octet-stream"}
        assert seen == (forms | {"multipart/form-data"} if path in ("/predict", "/feature-maps") else forms)
