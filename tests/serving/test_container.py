"""The container files agree with each other, with the package, and with the command line."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

from restune.cli.serve import serve
from restune.serving.answers import Limits

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def steps():
    """Instructions of the Dockerfile: pairs of a word and its arguments."""
    lines = (ROOT / "deploy/Dockerfile").read_text().splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def service():
    composed = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
    (found,) = composed["services"].values()
    return found


def only(steps, word):
    (found,) = [arguments for name, arguments in steps if name == word]
    return found


def test_what_is_copied_is_there_and_what_is_installed_is_declared(steps):
    for name, arguments in steps:
        if name == "COPY":
            assert all((ROOT / source).exists() for source in shlex.split(arguments)[:-1])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    command = shlex.split(only(steps, "RUN").partition("&&")[0])
    (extras,) = re.findall(r"\[(.*)\]", command[-1])
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    assert (ROOT / command[command.index("-c") + 1]).is_file()
    assert {project["readme"], *project["license-files"]} <= set(
        shlex.split(next(arguments for name, arguments in steps if name == "COPY"))
    )
    tested = re.fullmatch(r"python:3\.(\d+)-slim", only(steps, "FROM"))
    assert f"Programming Language :: Python :: 3.{tested[1]}" in project["classifiers"]


def test_the_server_starts_with_options_that_it_has(steps):
    program, verb, *options = json.loads(only(steps, "ENTRYPOINT"))
    assert (program, verb) == ("restune", "serve")
    given = dict(zip(options[::2], options[1::2], strict=True))
    assert set(given) == {"--host", "--log"}
    known = inspect.signature(serve).parameters
    assert all(option.removeprefix("--") in known for option in given)
    port = only(steps, "EXPOSE")
    assert f":{port}/healthz" in only(steps, "HEALTHCHECK")


def test_compose_runs_that_image_on_the_folder_that_it_serves(steps, service):
    folder = ROOT / "deploy" / service["build"]["context"]
    assert (folder / service["build"]["dockerfile"]).resolve() == ROOT / "deploy/Dockerfile"
    (mounted,) = json.loads(only(steps, "CMD"))
    (volume,) = service["volumes"]
    assert volume.startswith("${RUN:?")
    assert volume.endswith(f":{mounted}:ro")
    (ports,) = service["ports"]
    assert ports == f"127.0.0.1:{only(steps, 'EXPOSE')}:{only(steps, 'EXPOSE')}"
    assert service["read_only"] is True
    assert "/home/restune" in service["tmpfs"]
    seconds = int(service["stop_grace_period"].removesuffix("s"))
    assert seconds > 2 * Limits().timeout + 1  # as long as the server may take to answer what it accepted
