"""The commands in both READMEs name verbs and options that exist; CI runs the first and the test command whole."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest

from restune.cli import VERBS

ROOT = Path(__file__).parent.parent


def commands(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(
        r"(?:^|/bin/)restune ([a-z]+)([^\n#]*)", "\n".join(re.findall(r"```sh\n(.*?)```", text, re.S)), re.M
    )


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("README.md", 21),
        ("README.zh-CN.md", 20),
        ("docs/kinds.md", 6),
        ("docs/own-networks.md", 2),
        ("docs/structure.md", 9),
    ],
)
def test_commands_name_what_exists(name, count):
    found = commands(name)
    assert len(found) == count
    for verb, rest in found:
        assert verb in VERBS
        module = importlib.import_module(f"restune.cli.{VERBS[verb][0]}")
        known = inspect.signature(getattr(module, verb)).parameters
        for option in re.findall(r"--([a-z-]+)", rest):
            option = {"csv": "csv_file", "json": "as_json", "set": "assignments"}.get(option, option.replace("-", "_"))
            assert option in known, f"{verb} --{option}"


def test_the_page_on_own_networks_runs(tmp_path, monkeypatch, write_noise):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("restune.networks.registry._registered", {})
    write_noise(tmp_path / "photos", red=(120, 16), blue=(0, 16))
    (tmp_path / "photos" / "red" / "000.png").rename(tmp_path / "photos" / "red" / "0.jpg")
    text = (ROOT / "docs" / "own-networks.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(blocks) == 5
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)  # our own page
    assert names["losses"]


def test_readme_has_the_command_that_ci_runs():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("<!-- first-command -->") == text.count("<!-- test-command -->") == 1
