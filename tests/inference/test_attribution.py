"""Maps equal hand computations and captum's, add up to the logit, and lie where they belong on the original."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import captum.attr
import numpy as np
import pytest
import torch
from PIL import Image

import restune
from restune.core.errors import UserError
from restune.data.preprocess.signal import SignalPreprocess
from restune.data.preprocess.text import TextPreprocess
from restune.data.preprocess.video import VideoPreprocess
from restune.inference.attribution import maps
from restune.inference.attribution.explain import Explainer
from restune.inference.attribution.placement import enlarged, image_placement, on_original
from restune.inference.model import Model
from restune.networks.custom import CustomNetwork, CustomSpec
from restune.networks.resnet import ResNet
from restune.networks.spec import ResNetSpec, StageSpec
from restune.weights.bundle import BundleInfo

POOLS = ("average", "max", "average+max", "k-max")


def identity_network(stride=1, pool="average"):
    """One block whose branch is zero: it passes on its non-negative input. Logits 2 and -1 times the mean, plus 0.5."""
    stage = StageSpec(block="basic", depth=1, width=1, stride=stride)
    spec = ResNetSpec(in_channels=1, stem="none", stages=(stage,), shortcut="A", pool=pool, num_classes=2)
    network = ResNet(spec).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "conv" in name:
                parameter.zero_()
        network.fc.weight.copy_(torch.tensor([[2.0], [-1.0]]))
        network.fc.bias.copy_(torch.tensor([0.5, 0.0]))
    return network


def image_model(network, crop, resize=None, classes=("for", "against")):
    preprocess = restune.ImagePreprocess(crop=crop, resize=resize, mean=(0.0,), std=(1.0,))
    return Model(network, BundleInfo(spec=network.spec, classes=classes, preprocess=preprocess), "test")


def test_the_map_of_a_network_computed_by_hand():
    pixels = np.array([[0, 255, 0, 51], [0, 0, 0, 0], [102, 0, 0, 0], [0, 0, 0, 204]], np.uint8)
    values = pixels / 255
    (found,) = image_model(identity_network(), 4).explain(pixels)
    assert (found.label, found.method, found.stage) == ("for", "cam", 1)
    np.testing.assert_allclose(found.positions, 2 * values, atol=1e-6)
    np.testing.assert_allclose(found.on_original(), 2 * values, atol=1e-6)
    assert found.logit == pytest.approx(2 * values.mean() + 0.5)
    (against,) = image_model(identity_network(), 4).explain(pixels, label="against")
    np.testing.assert_allclose(against.map, -values, atol=1e-6)
    assert found.probability + against.probability == pytest.approx(1)


def test_a_strided_map_lies_where_its_receptive_fields_are_centred():
    """Option A's shortcut reads every second pixel: position (1, 0) of the map is pixel (2, 0)."""
    pixels = np.zeros((8, 8), np.uint8)
    pixels[2, 0] = 255
    (found,) = image_model(identity_network(stride=2), 8).explain(pixels)
    assert found.positions.shape == (4, 4)
    assert np.unravel_index(found.positions.argmax(), (4, 4)) == (1, 0)
    assert np.unravel_index(found.map.argmax(), (8, 8)) == (2, 0)
    assert found.map[1, 0] == found.map[3, 0] == pytest.approx(1.0)


def test_max_pooling_counts_where_the_largest_value_is():
    pixels = np.zeros((4, 4), np.uint8)
    pixels[1, 2], pixels[3, 3] = 255, 100
    (found,) = image_model(identity_network(pool="max"), 4).explain(pixels)
    expected = np.zeros((4, 4))
    expected[1, 2] = 16 * 2.0
    np.testing.assert_allclose(found.positions, expected, atol=1e-5)
    assert found.positions.mean() + 0.5 == pytest.approx(found.logit)


@pytest.mark.parametrize("preact", [False, True])
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("name", ["resnet8", "resnet1d18", "r3d_18"])
def test_the_mean_of_the_map_plus_the_bias_is_the_logit(name, pool, preact, randomize):
    network = restune.create_model(name, width=8, pool=pool, preact=preact, num_classes=5, in_channels=3)
    network = randomize(network).double()
    x = torch.randn(3, 3, *{1: (70,), 2: (32, 32), 3: (4, 32, 32)}[network.spec.dims], dtype=torch.float64)
    mask = None
    if network.spec.dims == 1:  # series of different lengths
        mask = torch.arange(70) < torch.tensor([[70], [33], [5]])
    last, classes = len(network.spec.stages), torch.tensor([4, 0, 2])
    with torch.inference_mode():
        here = network.mask_at(mask, last)
        activations = network.activated(network.forward_until(x, last, mask), here)
        found = maps.class_activation(network, activations, here, classes)
        logits = network(x, mask)
    for row, target in enumerate(classes.tolist()):
        real = found[row] if here is None else found[row][here[row]]
        assert float(real.mean()) + network.fc.bias[target].item() == pytest.approx(
            float(logits[row, target]), abs=1e-9
        )
        assert here is None or not found[row][~here[row]].any()


@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize(("name", "options"), [
    ("resnet20", {}), ("resnet18", {"width": 8}), ("resnet50", {"width": 8, "stem": "small"}), ("resnet1d_ts", {}),
    ("r3d_18", {"width": 4}),
])  # fmt: skip
def test_the_map_is_captums_grad_cam_up_to_scale(name, options, rectified, randomize):
    network = randomize(restune.create_model(name, num_classes=6, **options))
    x = torch.randn(2, network.spec.in_channels, *{1: (50,), 2: (64, 64), 3: (4, 32, 32)}[network.spec.dims])
    last, classes = len(network.spec.stages), torch.tensor([1, 3])
    mine = maps.class_activation(network, network.forward_until(x, last), None, classes).detach()
    reference = captum.attr.LayerGradCam(network, network.stages()[-1][-1])
    theirs = reference.attribute(x, target=classes, relu_attributions=rectified).squeeze(1).detach()
    mine = mine.clamp(min=0) if rectified else mine
    torch.testing.assert_close(mine / mine[0].numel(), theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("stage", [1, 2])
def test_other_stages_equal_captums_grad_cam(stage, randomize):
    network = randomize(restune.create_model("resnet20", num_classes=6))
    x, classes = torch.randn(2, 3, 32, 32), torch.tensor([1, 3])
    theirs = captum.attr.LayerGradCam(network, network.stages()[stage - 1][-1]).attribute(x, target=classes)
    mine = maps.grad_cam(network, x, None, classes, stage)
    torch.testing.assert_close(mine, theirs.squeeze(1).detach(), rtol=1e-3, atol=1e-6)


def test_occlusion_and_integrated_gradients_agree_with_the_map_by_hand():
    """Of a network that is linear where values are positive, all methods see the same pixels."""
    pixels = np.zeros((16, 16), np.uint8)
    pixels[4:8, 8:12] = 200
    model = image_model(identity_network(), 16)
    (cam,), (covered,), (gradients,) = (model.explain(pixels, method=name) for name in (
        "cam", "occlusion", "integrated-gradients"))  # fmt: skip
    assert gradients.map.sum() == pytest.approx(cam.logit - 0.5, abs=1e-4)
    np.testing.assert_allclose(gradients.map, cam.map / 256, atol=1e-5)
    assert covered.map[5:7, 9:11].min() > 0
    assert not covered.map[12:].any()


def jpeg(pixels, orientation=1):
    buffer, image = io.BytesIO(), Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(buffer, format="PNG", exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_map_lies_on_the_upright_photo(orientation):
    """A bright square in a photo that lies on its side, resized and cropped: the heat is on the square."""
    stored = np.zeros((60, 90), np.uint8)
    stored[10:22, 36:48] = 255
    content = jpeg(stored, orientation)
    model = image_model(identity_network(), 20, 30)
    (found,) = model.explain([content])
    upright = np.asarray(restune.ImagePreprocess(crop=20, mean=(0.0,), std=(1.0,)).whole(content))[0]
    heat = found.on_original()
    assert heat.shape == upright.shape
    seen = np.isfinite(heat)
    assert seen.sum() == 40 * 40  # 20 of the 30 pixels to which the shorter side of 60 is resized
    expected = [np.average(axis, weights=np.where(seen, upright, 0)) for axis in np.indices(upright.shape)]
    heat = np.nan_to_num(heat)
    assert [np.average(axis, weights=heat) for axis in np.indices(heat.shape)] == pytest.approx(expected, abs=0.6)
    small = found.on_original((upright.shape[0] // 3, upright.shape[1] // 3))
    assert np.unravel_index(np.nanargmax(small), small.shape) == pytest.approx(
        [place / 3 for place in expected], abs=2.5
    )


@pytest.mark.parametrize("size", [(60, 90), (90, 60), (10, 4000), (33, 32)])
def test_the_part_that_the_network_sees_is_the_crop(size):
    """The reference is the preprocessing itself, on a photo whose grey levels tell each pixel's place."""
    preprocess = restune.ImagePreprocess(crop=24, resize=32, mean=(0.0,), std=(1.0,))
    ramps = [np.broadcast_to(np.linspace(0, 255, side).reshape(shape), size).astype(np.uint8)
             for side, shape in zip(size, ((-1, 1), (1, -1)), strict=True)]  # fmt: skip
    place = image_placement(size, 32, 24)
    for axis, ramp in enumerate(ramps):
        seen = preprocess.apply(np.ascontiguousarray(ramp))[0].numpy().astype(float)
        start, end = place.seen[axis]
        middle = (start + end) / 2 / size[axis] * 255
        assert seen.mean() == pytest.approx(middle, abs=1.5)
        extent = np.ptp(seen.mean(axis=1 - axis)) / 255 * size[axis]
        assert extent == pytest.approx(end - start, rel=0.12, abs=2 * size[axis] / 255)


def test_a_flipped_map_is_noticed():
    values = np.zeros((4, 4), np.float32)
    values[0, 3] = 1
    heat = on_original(enlarged(values, (16, 16)), image_placement((40, 80), None, 16), (40, 80))
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert row < 10
    assert column > 50


def series_model(pool="average"):
    network = restune.create_model("resnet1d_ts", num_classes=2, in_channels=2, width=4, pool=pool).eval()
    preprocess = SignalPreprocess(channels=2, length=40)
    return Model(network, BundleInfo(spec=network.spec, classes=("a", "b"), preprocess=preprocess), "test")


def test_series_of_different_lengths_are_explained_as_if_alone():
    model, random = series_model(), np.random.default_rng(0)
    series = [random.normal(size=(2, length)).astype(np.float32) for length in (25, 60, 7)]
    together = model.explain(series, label="b")
    for one, found in zip(series, together, strict=True):
        (alone,) = model.explain([one], label="b")
        np.testing.assert_allclose(found.map, alone.map, atol=1e-5)
        assert found.map.shape == (min(40, one.shape[1]),)
        assert found.on_original().shape == (one.shape[1],)
        assert found.positions.mean() + model.module.fc.bias[1].item() == pytest.approx(found.logit, abs=1e-5)
    assert np.isnan(together[1].on_original()[[9, 50]]).all()  # the centre 40 of 60 were seen
    assert np.isfinite(together[1].on_original()[[10, 49]]).all()


TEXTS = ("Hello, WORLD's café 3", "cafe\u0301 \u2019tis", "没有意思 ok", "", " ", "a <b>", "é" * 40)


@pytest.mark.parametrize("tokens", ["words", "bytes"])
@pytest.mark.parametrize("text", TEXTS)
def test_each_token_of_a_text_has_its_characters(tokens, text):
    vocabulary = ("hello", "world's", "<Xx>", "<XX>", "café", "没", "ok") if tokens == "words" else ()
    preprocess = TextPreprocess(tokens=tokens, vocabulary=vocabulary, length=30)
    shown, characters = preprocess.spans(text)
    ids = preprocess.apply(text).tolist()
    assert len(characters) == len(ids)
    if tokens == "bytes":
        assert all(shown[slice(*span)].encode().count(bytes([token - 1])) for span, token in zip(
            characters, ids, strict=True) if shown)  # fmt: skip
        return
    for (start, end), token in zip(characters, ids, strict=True):
        if token >= 2 and not vocabulary[token - 2].startswith("<"):
            assert shown[start:end].lower() == vocabulary[token - 2]


@pytest.fixture
def models(tmp_path):
    """A file of a small network for each kind of data."""
    made = {
        "image": ("resnet8", {}, restune.ImagePreprocess(crop=16, resize=20)),
        "series": ("resnet1d_ts", {"in_channels": 1, "width": 4}, SignalPreprocess()),
        "text": ("textresnet", {"in_channels": 8, "width": 8, "vocabulary": 257}, TextPreprocess()),
        "video": ("r3d_18", {"width": 4}, VideoPreprocess(frames=4, crop=16, resize=20, clips=2)),
    }
    found = {}
    for kind, (name, options, preprocess) in made.items():
        torch.manual_seed(0)
        network = restune.create_model(name, num_classes=2, **options).eval()
        info = BundleInfo(spec=network.spec, classes=("blue", "red"), preprocess=preprocess)
        found[kind] = Model(network, info, kind).save(tmp_path / f"{kind}.safetensors")
    return found


def test_the_map_comes_from_the_forward_pass_of_the_prediction(models, photos, monkeypatch):
    model, passes = restune.load(models["image"]), []
    plain = restune.predict(model, photos)
    stem = ResNet.stem
    monkeypatch.setattr(ResNet, "stem", lambda self, x, mask=None: passes.append(len(x)) or stem(self, x, mask))
    explained = restune.predict(model, photos, explain=photos / "explained", batch_size=4)
    assert passes == [4, 2]
    for one, other in zip(explained, plain, strict=True):  # without explanations, norms are folded into convolutions
        assert [label for label, _ in one.top] == [label for label, _ in other.top]
        assert [p for _, p in one.top] == pytest.approx([p for _, p in other.top], rel=1e-4)
        same = {"explanation": None, "top": (), "probability": None, "novelty": None}
        assert replace(one, **same) == replace(other, **same)
    assert all(one.explanation.startswith(str(photos / "explained")) for one in explained)


def test_a_batch_that_is_split_keeps_its_maps_in_order(models, photos, monkeypatch):
    model = restune.load(models["image"])
    files = sorted(photos.rglob("*.jpg"))
    expected = model.explain(files)
    compute = Explainer._compute

    def short_of_memory(self, x, mask):
        if len(x) > 2:
            raise MemoryError
        return compute(self, x, mask)

    monkeypatch.setattr(Explainer, "_compute", short_of_memory)
    for mine, whole in zip(model.explain(files), expected, strict=True):
        assert (mine.input, mine.label) == (whole.input, whole.label)
        np.testing.assert_allclose(mine.map, whole.map, atol=1e-5)


def test_photos_are_explained_on_the_command_line(models, photos, tmp_path, run):
    (photos / "red" / "broken.jpg").write_bytes(b"nothing")
    odd = photos / "red" / ("a..%2f;" + "长" * 60 + ".jpg")
    (photos / "red" / "0.jpg").rename(odd)
    out = tmp_path / "explained"
    done = run("predict", models["image"], photos / "red", "--explain", out, "--json", "--lang", "zh")
    assert done.returncode == 2  # one photo is broken
    predictions = json.loads(done.stdout.splitlines()[-2 if "error" in done.stdout.splitlines()[-1][:9] else -1])
    assert [("explanation" in one, "error" in one) for one in predictions["predictions"]].count((True, False)) == 3
    files = {path.name for path in out.iterdir()}
    assert len(files) == 4
    assert all(len(name.encode()) < 200 for name in files)
    for one in predictions["predictions"]:
        if "explanation" in one:
            picture = Image.open(one["explanation"])
            assert picture.width == 2 * 560 + 8  # the photo, and beside it the same with heat
            assert picture.height == 420
    page = (out / "index.html").read_text(encoding="utf-8")
    assert page.count("data:image/") == 3
    assert "解释了 3 个输入" in page
    assert "http" not in page.replace("http://www.w3.org", "")


@pytest.mark.parametrize("kind", ["series", "text", "video"])
@pytest.mark.parametrize("method", ["cam", "gradcam", "occlusion", "integrated-gradients"])
def test_every_kind_of_data_and_method_writes_pictures(kind, method, models, tmp_path, run):
    random = np.random.default_rng(0)
    if kind == "series":
        np.save(tmp_path / "one.npy", random.normal(size=(1, 50)).astype(np.float32))
        given, suffix = [np.load(tmp_path / "one.npy")], ".svg"
    elif kind == "text":
        given, suffix = ["a <script>alert(1)</script> text", "短"], ".html"
    else:
        (tmp_path / "clip").mkdir()
        for number in range(6):
            Image.fromarray(random.integers(0, 255, (30, 40, 3), np.uint8)).save(tmp_path / "clip" / f"{number}.png")
        given, suffix = [tmp_path / "clip"], ".webp"
    from restune.inference.attribution.method import Attribution

    out = tmp_path / "out"
    found = restune.predict(
        models[kind], given, explain=out, attribution=Attribution(method=method, label="red")
    )  # fmt: skip
    assert len(found) == len(given)
    assert [one.explanation.endswith(suffix) for one in found] == [True] * len(given)
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    if kind == "text":
        assert "&lt;" in page
        assert "mark class" in page


def test_options_that_do_not_fit_are_refused(models, photos, tmp_path, run):
    photo = next(photos.rglob("*.jpg"))
    for arguments, message in (
        (["--explain-class", "red"], "--explain-class needs --explain"),
        (["--explain", tmp_path / "o", "--explain-class", "rad"], "does not have a class 'rad'"),
        (["--explain", tmp_path / "o", "--method", "cams"], "unknown method 'cams'"),
        (["--explain", tmp_path / "o", "--method", "occlusion", "--stage", "1"], "does not use a stage"),
        (["--explain", tmp_path / "o", "--stage", "7"], "there is no stage 7"),
        (["--explain", photo], "this is a file, not a folder"),
    ):
        done = run("predict", models["image"], photo, *arguments)
        assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "o").exists()


def test_a_module_of_ones_own_is_explained_by_captum_alone(photos):
    spec = CustomSpec(custom="Mine", dims=2, in_channels=3, num_classes=2)
    module = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(48, 2))
    network = CustomNetwork(module, spec).eval()
    info = BundleInfo(spec=spec, classes=("blue", "red"), preprocess=restune.ImagePreprocess(crop=16))
    model, photo = Model(network, info, "mine"), next(photos.rglob("*.jpg"))
    with pytest.raises(UserError, match="the stages of Mine, a module of one's own, are not known"):
        model.explain(photo)
    (found,) = model.explain(photo, method="occlusion")
    assert found.map.shape == (16, 16)
    assert found.stage is None


def test_models_of_other_tasks_are_refused():
    model = image_model(identity_network(), 4)
    other = replace(model, info=replace(model.info, task="multi-label"))
    with pytest.raises(UserError, match="only models that predict one class are explained"):
        other.explain(np.zeros((4, 4), np.uint8))
