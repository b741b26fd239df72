"""Published weights through a local mirror and a local stand-in for the Hugging Face hub."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torchvision

from restune.core.errors import UserError
from restune.weights import hub

pytestmark = pytest.mark.usefixtures("nothing_bundled")

FAKE = b"not really weights, but bytes with a hash"
FAKE_DIGEST = hashlib.sha256(FAKE).hexdigest()
TIMM = "timm:resnet50.a1_in1k"
CONFIG: dict[str, Any] = {
    "architecture": "resnet50",
    "num_classes": 1000,
    "pretrained_cfg": {
        "tag": "a1_in1k",
        "input_size": [3, 224, 224],
        "test_input_size": [3, 288, 288],
        "interpolation": "bicubic",
        "crop_pct": 0.95,
        "crop_mode": "center",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "license": "apache-2.0",
    },
}


@dataclass
class Site:
    """What the server has, by path, and what was asked of it."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    error: tuple[int, str] | None = None
    requests: list[tuple[str, str]] = field(default_factory=list)

    def publish_on_hub(self, config: dict[str, Any], name: str = "resnet50.a1_in1k") -> None:
        folder = f"/timm/{name}/resolve/main"
        self.files = {
            f"{folder}/config.json": json.dumps(config).encode(),
            f"{folder}/model.safetensors": FAKE,
        }
        self.hashes = {f"{folder}/model.safetensors": FAKE_DIGEST}


class Handler(BaseHTTPRequestHandler):
    site: Site

    def do_HEAD(self) -> None:
        self._answer(head=True)

    def do_GET(self) -> None:
        self._answer(head=False)

    def _answer(self, *, head: bool) -> None:
        self.site.requests.append((self.command, self.path))
        body = self.site.files.get(self.path)
        if body is None:
            status, code = self.site.error or (404, "RepoNotFound")
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
        if self.path in self.site.hashes:
            self.send_header("X-Linked-Etag", f'"{self.site.hashes[self.path]}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if not head:
            self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("RESTUNE_CACHE", str(folder))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return folder


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server that is the mirror and the hub."""
    state = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OwnHandler", (Handler,), {"site": state}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    state.address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("RESTUNE_MIRROR", f"{state.address}/mirror")
    monkeypatch.setenv("HF_ENDPOINT", state.address)
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An address where nobody listens, as mirror and hub."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv("RESTUNE_MIRROR", address)
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("resnet50:v2", True),
        ("resnet20:cifar10", True),
        ("ResNet50_Weights.IMAGENET1K_V2", True),
        ("Wide_ResNet101_2_Weights.DEFAULT", True),
        ("timm:resnet50.a1_in1k", True),
        ("timm:../nowhere", True),  # refused by fetch, which says why
        ("resnet50", False),
        ("resnet50.pth", False),
        ("My_Weights.pth", False),
        ("runs/first", False),
        ("./resnet50:v2", False),
        ("C:\\models\\net.pth", False),
        ("https://example.org/net.pth", False),
        ("", False),
    ],
)
def test_the_form_of_a_published_name(text: str, expected: bool) -> None:
    assert hub.is_published_reference(text) is expected


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("resnet18", ("resnet18:v1",)),
        ("resnet50", ("resnet50:v1", "resnet50:v2", "timm:resnet50.a1_in1k")),
        ("wide_resnet101_2", ("wide_resnet101_2:v1", "wide_resnet101_2:v2")),
        ("resnet110", ("resnet110:cifar10",)),
        ("ecaresnet50d", ("timm:ecaresnet50d.miil_in1k",)),
        ("preresnet18", ()),
    ],
)
def test_what_is_published_for_a_network(model: str, expected: tuple[str, ...], nobody: str) -> None:
    assert hub.available(model) == expected


def test_every_reference_has_the_form_of_one() -> None:
    models = [
        *(f"resnet{n}" for n in (18, 34, 50, 101, 152, 20, 32, 44, 56, 110)),
        *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2"),
        *("resnet18d", "resnet34d", "resnet50d", "resnet101d", "seresnet50", "ecaresnet50d"),
    ]
    references = [reference for model in models for reference in hub.available(model)]
    assert len(references) == len(set(references)) == 17 + 5 + 9
    assert all(hub.is_published_reference(reference) for reference in references)


def test_the_timm_references_exist() -> None:
    timm = pytest.importorskip("timm", reason="names are compared with timm's: pip install -e '.[dev]'")
    for model, tags in hub._TIMM.items():
        assert {f"{model}.{tag}" for tag in tags} <= set(timm.list_pretrained(f"{model}.*"))


@pytest.mark.parametrize("name", ["resnet20", "resnet32", "resnet44", "resnet56", "resnet110"])
def test_cifar_weights_from_a_mirror(site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    reference = f"{name}:cifar10"
    published = hub._CIFAR[reference]
    file_name = published.address.rsplit("/", 1)[1]
    monkeypatch.setitem(hub._CIFAR, reference, dataclasses.replace(published, sha256=FAKE_DIGEST))
    site.files[f"/mirror/{file_name}"] = FAKE
    found = hub.fetch(reference)
    assert found.file.read_bytes() == FAKE
    assert found.file.name == file_name
    assert found.file.is_relative_to(cache / "weights")
    assert (found.reference, found.model, found.licence) == (reference, name, "BSD-2-Clause")
    assert found.classes is not None
    assert (len(found.classes), found.classes[1], found.classes[9]) == (10, "automobile", "truck")
    assert found.preprocess is None
    assert found.source == (
        f"https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models/{file_name}"
    )
    assert hub.fetch(reference) == found
    assert len(site.requests) == 1


@pytest.mark.parametrize(
    ("reference", "short", "member", "resize"),
    [
        ("resnet50:v1", "resnet50:v1", "ResNet50_Weights.IMAGENET1K_V1", 256),
        ("resnet50:v2", "resnet50:v2", "ResNet50_Weights.IMAGENET1K_V2", 232),
        ("ResNet50_Weights.IMAGENET1K_V2", "resnet50:v2", "ResNet50_Weights.IMAGENET1K_V2", 232),
        ("ResNet50_Weights.DEFAULT", "resnet50:v2", "ResNet50_Weights.IMAGENET1K_V2", 232),
        ("resnext101_64x4d:v1", "resnext101_64x4d:v1", "ResNeXt101_64X4D_Weights.IMAGENET1K_V1", 232),
        ("wide_resnet50_2:v1", "wide_resnet50_2:v1", "Wide_ResNet50_2_Weights.IMAGENET1K_V1", 256),
    ],
)
def test_torchvision_weights_from_a_mirror(
    site: Site, monkeypatch: pytest.MonkeyPatch, reference: str, short: str, member: str, resize: int
) -> None:
    weights = torchvision.models.get_weight(member)
    entry = hub._torchvision()[reference]
    assert entry.sha256 == weights.url[-12:-4]
    table = {**hub._torchvision(), reference: dataclasses.replace(entry, sha256=FAKE_DIGEST)}
    monkeypatch.setattr(hub, "_torchvision", lambda: table)
    site.files["/mirror/" + weights.url.rsplit("/", 1)[1]] = FAKE
    found = hub.fetch(reference)
    assert found.file.read_bytes() == FAKE
    assert (found.reference, found.model) == (short, short.split(":")[0])
    assert found.classes == tuple(weights.meta["categories"])
    assert found.source == weights.url
    assert found.preprocess == {
        "kind": "image",
        "resize": resize,
        "crop": 224,
        "interpolation": "bilinear",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }


@pytest.mark.parametrize(
    ("reference", "file_name"),
    [("resnet44:cifar10", "resnet44-014dd654.th"), ("resnet50:v2", "resnet50-11ad3fa6.pth")],
)
def test_a_file_with_another_hash_is_refused(site: Site, cache: Path, reference: str, file_name: str) -> None:
    site.files[f"/mirror/{file_name}"] = FAKE
    with pytest.raises(UserError, match=f"{file_name} is not the published file.*\n.*mirror/{file_name}"):
        hub.fetch(reference)
    assert not list(cache.rglob("*.*th"))


def test_without_a_network_it_says_what_to_put_where(cache: Path, nobody: str) -> None:
    with pytest.raises(UserError) as caught:
        hub.fetch("resnet20:cifar10")
    place = cache / "weights" / "pytorch_resnet_cifar10" / "resnet20-12fca82f.th"
    assert f"{nobody}/resnet20-12fca82f.th" in str(caught.value)
    assert f"put it at {place}" in str(caught.value)


@pytest.mark.parametrize(
    ("reference", "suggestion"),
    [
        ("resnet50:v3", "resnet50:v2"),
        ("resnet21:cifar10", "'resnet20:cifar10'"),
        ("ResNet50_Weights.IMAGENET1K_V3", "'ResNet50_Weights.IMAGENET1K_V2'"),
        ("VGG16_Weights.DEFAULT", ""),
    ],
)
def test_an_unknown_name_gets_a_suggestion(site: Site, reference: str, suggestion: str) -> None:
    with pytest.raises(UserError) as caught:
        hub.fetch(reference)
    assert f"no weights are published as {reference!r}" in str(caught.value)
    assert suggestion in str(caught.value)
    assert site.requests == []


def test_timm_weights_are_fetched_once(site: Site, cache: Path) -> None:
    site.publish_on_hub(CONFIG)
    found = hub.fetch(TIMM)
    folder = cache / "weights" / "timm" / "resnet50.a1_in1k"
    assert found == hub.PublishedWeights(
        reference=TIMM,
        model="resnet50",
        file=folder / "model.safetensors",
        classes=None,
        preprocess={
            "kind": "image",
            "resize": 235,  # 224 / 0.95 = 235.8, which timm rounds down
            "crop": 224,
            "interpolation": "bicubic",
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
        },
        licence="apache-2.0",
        source="https://huggingface.co/timm/resnet50.a1_in1k",
    )
    assert found.file.read_bytes() == FAKE
    assert [command for command, _ in site.requests] == ["HEAD", "GET"] * 2
    assert hub.fetch(TIMM) == found
    assert len(site.requests) == 4


@pytest.mark.parametrize("flat", [False, True])
def test_timm_label_names_become_classes(site: Site, flat: bool) -> None:
    labelled = {**CONFIG["pretrained_cfg"], "label_names": ["cat", "dog"]}
    site.publish_on_hub({"architecture": "resnet50", **labelled} if flat else {**CONFIG, "pretrained_cfg": labelled})
    found = hub.fetch(TIMM)
    assert found.classes == ("cat", "dog")
    assert found.preprocess is not None
    assert found.preprocess["resize"] == 235


def test_a_timm_preprocessing_that_is_not_ours_is_said(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.publish_on_hub({**CONFIG, "pretrained_cfg": {**CONFIG["pretrained_cfg"], "crop_mode": "squash"}})
    assert hub.fetch(TIMM).preprocess is None
    assert f"warning: the preprocessing of {TIMM}" in capsys.readouterr().err


def test_timm_weights_with_another_hash_are_refused(site: Site, cache: Path) -> None:
    site.publish_on_hub(CONFIG)
    site.hashes = dict.fromkeys(site.hashes, "0" * 64)
    with pytest.raises(UserError, match=r"model\.safetensors is not the published file"):
        hub.fetch(TIMM)
    assert not list(cache.rglob("model.safetensors*.part"))
    assert not list(cache.rglob("model.safetensors"))


def test_a_timm_config_that_is_none(site: Site) -> None:
    site.publish_on_hub(CONFIG)
    site.files = {path: b"[]" if path.endswith("json") else body for path, body in site.files.items()}
    with pytest.raises(UserError, match=r"config\.json is not a configuration of timm weights"):
        hub.fetch(TIMM)


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (404, "RepoNotFound", "there are no weights timm:resnet50.a1_ink on the hub"),
        (403, "GatedRepo", "timm:resnet50.a1_ink asks for consent"),
        (404, "EntryNotFound", "timm:resnet50.a1_ink has no config.json on the hub"),
        (500, "", "cannot reach the hub for timm:resnet50.a1_ink: "),
    ],
)
def test_what_the_hub_refuses(site: Site, cache: Path, status: int, code: str, message: str) -> None:
    site.error = (status, code)
    with pytest.raises(UserError) as caught:
        hub.fetch("timm:resnet50.a1_ink")
    assert message in str(caught.value)
    assert f"where: {site.address}/timm/resnet50.a1_ink/resolve/main/config.json" in str(caught.value)
    assert ("Did you mean 'timm:resnet50.a1_in1k'" in str(caught.value)) == (code == "RepoNotFound")
    assert not cache.exists()


def test_timm_weights_without_a_network_say_what_to_put_where(cache: Path, nobody: str) -> None:
    folder = cache / "weights" / "timm" / "resnet50.a1_in1k"
    with pytest.raises(UserError) as caught:
        hub.fetch(TIMM)
    assert f"{nobody}/timm/resnet50.a1_in1k/resolve/main/config.json" in str(caught.value)
    assert f"put it at {folder / 'config.json'}, with model.safetensors beside it" in str(caught.value)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "model.safetensors").write_bytes(FAKE)
    assert hub.fetch(TIMM).file.read_bytes() == FAKE


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../resnet50", "a/b", "a\\b", "/etc", "a..b", "C:x", ".hidden", "a\n", "resnet50 a1"],
)
def test_a_timm_name_cannot_leave_the_cache_folder(site: Site, cache: Path, name: str) -> None:
    with pytest.raises(UserError, match="is not a name of timm weights"):
        hub.fetch(f"timm:{name}")
    assert site.requests == []
    assert not cache.exists()
