"""What frozen layers compute is computed once: hits, misses, damage, sharing, and equality with the network's own."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import restune
from restune.core.files import cache_folder
from restune.core.rowstore import RowStore
from restune.data.augment import Augment
from restune.data.preprocess import ImagePreprocess
from restune.data.sources import open_dataset
from restune.inference import features
from restune.inference.features import FeatureCache, View
from restune.networks.fold import folded

PREPROCESS = ImagePreprocess(crop=32)
FLIPS = Augment(crop_scale=(0.4, 1.0), flip=True)
MANY = ("resnet20", "resnet18", "resnet50", "resnet50d", "preresnet18", "resnext50_32x4d")


@pytest.fixture
def network(randomize):
    torch.manual_seed(0)
    return randomize(restune.create_model("resnet8", num_classes=2))


def table(network, photos, view=None, **options):
    return FeatureCache(network, PREPROCESS, **options).of(open_dataset(photos).items, view)


@pytest.mark.parametrize("name", MANY)
def test_a_folded_part_says_what_the_network_says(name, randomize):
    if name not in restune.list_models():
        pytest.fail(f"{name} left the zoo: name another of its kind")
    network = randomize(restune.create_model(name, num_classes=3))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for cut in (0, 1, len(network.spec.stages), "all"):
            expected = network.forward_until(images, cut)
            given = folded(network, cut).forward_until(images, cut)
            assert torch.allclose(given, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
            assert torch.allclose(network.forward_from(expected, cut), network(images), atol=1e-5)


def test_features_are_the_networks_and_are_computed_once(network, photos):
    items = open_dataset(photos).items
    first = table(network, photos)
    images = PREPROCESS.normalize(torch.stack([PREPROCESS.apply(item.location.read()) for item in items]))
    with torch.no_grad():
        expected = network.embed(images)
    assert torch.allclose(first.rows[0:6], expected, atol=1e-5)
    again = table(network, photos)
    assert (first.computed, again.computed) == (6, 0)
    assert torch.equal(first.rows[0:6], again.rows[0:6])
    assert torch.equal(again.rows.take(np.array([5, 0, 0])), first.rows[0:6][[5, 0, 0]])
    apart = table(network, photos, on_disk=False)
    assert apart.computed == 6
    assert torch.equal(apart.rows[0:6], first.rows[0:6])


def test_any_change_misses(network, photos, monkeypatch):
    def computed(network=network, preprocess=PREPROCESS, view=None, **options):
        return FeatureCache(network, preprocess, **options).of(open_dataset(photos).items, view).computed

    assert computed() == 6
    view = View(augment=FLIPS, seed=0, number=1)
    changes = [
        {"preprocess": replace(PREPROCESS, mean=(0.5, 0.5, 0.5))},
        {"preprocess": replace(PREPROCESS, interpolation="bicubic")},
        {"view": view},
        {"view": replace(view, number=2)},
        {"view": replace(view, seed=1)},
        {"view": replace(view, augment=replace(FLIPS, flip=False))},
        {"cut": 1},
    ]
    for change in changes:
        assert computed(**change) == 6, change
        assert computed(**change) == 0, change
    with torch.no_grad():
        network.fc.weight.add_(1)  # not frozen: what lies above the cut does not matter
    assert computed() == 0
    with torch.no_grad():
        network.bn1.running_mean[0] += 0.01
    assert computed() == 6
    monkeypatch.setattr(features, "CODE_VERSION", features.CODE_VERSION + 1)
    assert computed() == 6


def test_one_changed_byte_is_one_row(network, photos):
    table(network, photos)
    path = photos / "red" / "0.jpg"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))
    assert table(network, photos).computed == 1


def test_views_depend_on_content_and_number_only(network, photos):
    random = np.random.default_rng(0)
    for path in photos.rglob("*.jpg"):
        Image.fromarray(random.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(path)
    items = open_dataset(photos).items
    view = View(augment=FLIPS, seed=3, number=1)
    whole = FeatureCache(network, PREPROCESS, on_disk=False, batch_size=2).of(items, view).rows[0:6]
    alone = FeatureCache(network, PREPROCESS, on_disk=False).of(items[4:5], view).rows[0:1]
    assert torch.allclose(whole[4:5], alone, atol=1e-5)
    other = FeatureCache(network, PREPROCESS, on_disk=False).of(items, replace(view, number=2)).rows[0:6]
    assert not torch.allclose(whole, other, atol=1e-6)


@pytest.mark.parametrize("damage", ["cut", "empty", "altered"])
def test_damage_is_noticed_and_mended(network, photos, capsys, damage):
    first = table(network, photos).rows[0:6].clone()
    (segment,) = (cache_folder() / "features").glob("*/*.safetensors")
    content = bytearray(segment.read_bytes())
    if damage == "altered":
        content[-5] ^= 255
    segment.write_bytes({"cut": content[:-40], "empty": b"", "altered": content}[damage])
    again = table(network, photos)
    assert again.computed == 6
    assert torch.equal(again.rows[0:6], first)
    assert "damaged" in capsys.readouterr().err
    assert table(network, photos).computed == 0


def test_unreadable_items_are_named_and_left_out(network, photos):
    (photos / "red" / "0.jpg").write_bytes(b"<html>")
    (photos / "red" / "1.jpg").write_bytes(b"")
    found = table(network, photos)
    assert set(found.failures) == {"red/0.jpg", "red/1.jpg"}
    assert found.readable.tolist() == [0, 1, 2, 5]
    assert found.rows.shape == (4, 64)


def _write(folder, number):
    store = RowStore(Path(folder), {"what": "a test"})
    for start in range(20):
        keys = [bytes([start, row] + [0] * 14) for row in range(50)]
        store.add(keys, np.full((50, 8), start, np.float32))


def test_two_processes_share_a_store(tmp_path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(str(tmp_path / "store"), number)) for number in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(240)
        assert writer.exitcode == 0
    store = RowStore(tmp_path / "store", {})
    assert len(store.places) == 1000
    rows = store.rows([bytes([start, 7] + [0] * 14) for start in range(20)])
    assert rows.take(slice(None))[:, 0].tolist() == list(range(20))
    assert not list(tmp_path.rglob("*.tmp"))


def test_embed_writes_what_the_model_says(network, photos, tmp_path):
    model_path = tmp_path / "weights.pth"
    torch.save(network.state_dict(), model_path)
    model = restune.load("resnet8", weights=model_path)
    made = restune.embed(model, photos, out=tmp_path / "features.npz")
    saved = np.load(tmp_path / "features.npz", allow_pickle=False)
    assert saved["features"].shape == (6, 64)
    assert saved["labels"].tolist() == [0, 0, 0, 1, 1, 1]
    assert saved["classes"].tolist() == ["blue", "red"]
    assert saved["ids"].tolist() == list(made.ids)
    paths = [photos / name for name in made.ids]
    np.testing.assert_allclose(model.embed(paths), saved["features"], rtol=1e-5, atol=1e-5)


def test_the_cache_verb_lists_and_prunes(network, photos):
    from restune.core.errors import UserError
    from restune.verbs.cache import cached_features, parse_size, prune_features

    table(network, photos)
    table(network, photos, View(augment=FLIPS, seed=0, number=1))
    assert [store.rows for store in cached_features()] == [6, 6]
    assert json.dumps(cached_features()[0].about)
    assert parse_size("1.5M") == 3 * 2**19
    with pytest.raises(UserError, match="not a size"):
        parse_size("much")
    with pytest.raises(UserError, match="no limit for removal"):
        prune_features()
    assert prune_features(to="1G") == []
    assert len(prune_features(to=0)) == 2
    assert cached_features() == []
