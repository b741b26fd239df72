"""The pages in docs/ and docs/zh/: they build, their links lead somewhere, their commands are real, and both languages
have the same pages."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import sys
import urllib.parse
from pathlib import Path
from xml.etree import ElementTree

import pytest

from restune.cli import VERBS, make_app
from restune.lessons.catalogue import LESSONS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
ENGLISH = sorted(page.name for page in DOCS.glob("*.md"))
PAGES = [*sorted(DOCS.glob("*.md")), *sorted((DOCS / "zh").glob("*.md"))]
RUN = "<!-- run -->"


def name_of(page):
    return str(page.relative_to(DOCS))


def fences(text, language):
    """Return the fenced blocks of a language: whether the comment before it says that it is run, and its text."""
    pattern = rf"({re.escape(RUN)}\n)?^```{language}\n(.*?)^```"
    return [(bool(marked), block) for marked, block in re.findall(pattern, text, re.S | re.M)]


def commands(text):
    """Return the arguments of each `restune` command of a text, and whether it is run."""
    found = []
    for marked, block in fences(text, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            for words in _split(shlex.split(line, comments=True)):
                if words and Path(words[0]).name == "restune" and words[1:2] != ["--help"]:
                    found.append((words[1:], marked))
    return found


def _split(words):
    """Cut a line at `&&`."""
    parts = [[]]
    for word in words:
        if word == "&&":
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def slug(heading):
    """Return a heading's anchor, as GitHub and MyST make it."""
    kept = re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading.strip().lower()))
    return kept.replace(" ", "-")


def parse(arguments):
    """Parse a command by the command line's own parser, without running it."""
    from typer.main import get_command

    group = get_command(make_app(arguments[0]))
    command = group.commands[arguments[0]]
    return command.make_context(arguments[0], list(arguments[1:])).params


ALL = [(name_of(page), words, marked) for page in PAGES for words, marked in commands(page.read_text(encoding="utf-8"))]


def test_the_chinese_pages_cover_every_english_one():
    assert len(ENGLISH) >= 16
    assert not set(ENGLISH) - {page.name for page in (DOCS / "zh").glob("*.md")}
    for name in ENGLISH:
        text = (DOCS / "zh" / name).read_text(encoding="utf-8")
        assert len(re.findall(r"[\u4e00-\u9fff]", text)) > 100, f"docs/zh/{name} is not in Chinese"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    downloads = re.findall(r"\{download\}`[^<`]*<([^>]+)>`", text)
    for target in [*re.findall(r"\]\(([^)\s]+)\)", text), *downloads]:
        assert not target.startswith(("/", "http:")), target
        if target.startswith("https:"):
            continue
        path, _, anchor = urllib.parse.unquote(target).partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.is_file(), f"{name_of(page)} links to {target}, which does not exist"
        if anchor:
            anchors = [slug(found) for found in re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.M)]
            assert anchor in anchors, f"{name_of(page)} links to {target}; the anchors are {anchors}"


def test_every_page_has_commands_that_are_counted():
    counts = {name_of(page): 0 for page in PAGES}
    for name, _, _ in ALL:
        counts[name] += 1
    without = {"index.md", "api.md", "architecture.md", "limits.md"}
    # Pages that show shell sessions of other programs have none of ours either.
    assert {name for name, count in counts.items() if not count} <= {
        *without, *(f"zh/{name}" for name in without), "scaling.md", "performance.md", "results.md", "zh/results.md",
    }  # fmt: skip
    assert len(ALL) >= 190
    assert sum(marked for _, _, marked in ALL) == 24


@pytest.mark.parametrize(
    "words", sorted({tuple(words) for _, words, _ in ALL}), ids=lambda words: " ".join(words).replace("/", "|")
)
def test_commands_parse(words):
    if not words:  # `restune` alone
        return
    assert words[0] in VERBS
    params = parse(words)
    if words[0] == "lesson" and params["name"] not in (None, "exercise"):
        assert params["name"] in LESSONS


def test_a_wrong_option_does_not_parse():
    with pytest.raises(Exception, match="--no-such-option"):
        parse(("train", "photos/", "--no-such-option"))


@pytest.mark.parametrize("folder", [DOCS, DOCS / "zh"], ids=["en", "zh"])
def test_every_lesson_is_in_the_answers(folder):
    words = commands((folder / "twelve-answers.md").read_text(encoding="utf-8"))
    assert set(LESSONS) <= {line[1] for line, _ in words if line[0] == "lesson" and len(line) > 1}


def test_marked_commands_run(tmp_path, monkeypatch, write_noise, run):
    monkeypatch.chdir(tmp_path)
    write_noise(tmp_path / "photos", red=(120, 16), blue=(0, 16))
    order = [
        "start.md", "check.md", "report.md", "fine-tune.md", "train.md", "recipes.md", "evaluate.md", "explain.md",
        "twelve-answers.md", "faq.md",
    ]  # fmt: skip
    marked = [(name, words) for name, words, runs in ALL if runs]
    assert {name for name, _ in marked} == set(order)
    for name, words in sorted(marked, key=lambda command: order.index(command[0])):
        ended = run(*words)
        assert ended.returncode == 0, f"{name}: restune {' '.join(words)}\n{ended.stderr}"
    for made in ("runs/small/model.safetensors", "runs/head/report.html", "features.npz", "resnet18.svg", "block.py"):
        assert (tmp_path / made).stat().st_size > 100


def test_chinese_pages_show_the_commands_that_run():
    chinese = {
        tuple(words[: -2 if words[-2:] == ["--lang", "zh"] else None]) for name, words, _ in ALL if name[:3] == "zh/"
    }
    assert {tuple(words) for _, words, marked in ALL if marked} <= chinese


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_blocks_compile(page):
    for _, block in fences(page.read_text(encoding="utf-8"), "python"):
        ast.parse(block)


@pytest.mark.parametrize("folder", [DOCS, DOCS / "zh"], ids=["en", "zh"])
def test_the_block_of_answer_five_works(folder):
    import torch

    ((_, block),) = fences((folder / "twelve-answers.md").read_text(encoding="utf-8"), "python")
    names: dict[str, object] = {}
    exec(block, names)  # our own page
    assert names["BasicBlock"](8, 16, 2)(torch.randn(2, 8, 10, 10)).shape == (2, 16, 5, 5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["finetune-a-folder", "inside-a-residual-network"])
def test_notebooks_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((DOCS / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) >= 4
    assert not any(cell["outputs"] for cell in cells)
    names: dict[str, object] = {}
    for cell in cells:
        exec("".join(cell["source"]), names)  # our own notebook
    if name == "finetune-a-folder":
        assert names["unchanged"] is True
        assert names["head"].result["val"]["accuracy"] > 0.5  # 5 classes
        assert names["auto"].result["val"]["accuracy"] > 0.5
    else:
        assert names["counts"] == [269_722, 269_722]
        assert names["norms"]["plain"][0] > 1e-3  # batch norm: they do not vanish
        assert len(names["lesions"]) == 6
        assert len({names["whole"], *names["lesions"].values()}) > 1  # removing a block changes something


def test_it_builds_without_warnings(tmp_path):
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", DOCS, tmp_path / "html"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    for page in PAGES:
        assert (tmp_path / "html" / page.relative_to(DOCS).with_suffix(".html")).is_file()
    api = (tmp_path / "html" / "api.html").read_text(encoding="utf-8")
    import restune

    missing = [name for name in restune.__all__ if name[0].isalpha() and f'id="restune.{name}"' not in api]
    assert not missing


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_readme_pictures_are_there_and_small(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert len(pictures) == 3
    for picture in pictures:
        content = (ROOT / picture).read_bytes()
        assert 5_000 < len(content) < 150_000, picture
        assert ElementTree.fromstring(content).tag.endswith("svg"), picture
    for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", text):
        assert target.startswith("https:") or (ROOT / target).exists(), f"{name} links to {target}"


def test_the_script_makes_the_pictures_that_the_readmes_show(tmp_path, monkeypatch):
    import importlib.util

    spec = importlib.util.spec_from_file_location("make_pictures", DOCS / "make_pictures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.structure(tmp_path)
    for name in ("resnet18.svg", "resnet18.zh.svg"):
        assert (tmp_path / name).read_bytes() == (DOCS / "pictures" / name).read_bytes()
    plot = module.standalone('<svg class="plot" viewBox="0 0 1 1"><path d=""/></svg>')
    assert plot.count("--ink:") == 2
    assert plot.count("--series-8:") == 2
    assert 'xmlns="http://www.w3.org/2000/svg"' in plot
    assert plot.count("{") == plot.count("}")
