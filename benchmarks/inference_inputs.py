"""The folder that inference.py measures with: a network with random weights as restune's bundle, its graphs, photos.

Made once and kept, since graphs take minutes. Weights are random, with batch-norm statistics of the photos: speed does
not depend on them.
"""

from __future__ import annotations

import json
import shutil
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
import torchvision
from inference_contenders import BUNDLE, CORE_INT8, PIXELS, RAW, RAW_INT8, normalised
from torch import Tensor, nn

import restune
from restune.core.console import quiet
from restune.data.sources.folder import walk_images
from restune.exporting.quantize import VERSIONS, _write_version
from restune.inference.model import Model
from restune.weights.bundle import BundleInfo

CALIBRATION = 16
"""Images that int8 graphs are calibrated on, enough for their speed."""


def photos_of(folder: Path) -> list[Path]:
    """Return the JPEG photos below a folder, the readable ones only."""
    return [path for path in walk_images(folder) if path.suffix.lower() in (".jpg", ".jpeg")]


def prepare(folder: Path, photos: Path, network: str, size: int, *, int8: bool) -> None:
    """Write everything that the contenders read, unless it is there for this network and size."""
    wanted = {"network": network, "size": size, "int8": int8, "restune": restune.__version__}
    record = folder / "inputs.json"
    if record.is_file() and json.loads(record.read_text(encoding="utf-8")) == wanted:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    preprocess = restune.ImagePreprocess(crop=size, resize=round(size * 256 / 224))
    crops = torch.stack([preprocess.apply(path.read_bytes()) for path in photos_of(photos)[:32]])
    np.save(folder / PIXELS, crops.numpy())
    with quiet():
        model = random_model(network, preprocess, crops)
        model.save(folder / BUNDLE)
        write_raw(model, folder)
        if int8:
            write_int8(model, folder)
        restune.export(folder / BUNDLE, to="onnx", out=folder / "export")
    record.write_text(json.dumps(wanted), encoding="utf-8")


def random_model(name: str, preprocess: restune.ImagePreprocess, crops: Tensor) -> Model:
    """Return a network whose batch norms have the statistics of the photos: activations neither grow nor vanish."""
    torch.manual_seed(0)
    network = restune.create_model(name, num_classes=1000).train()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network(preprocess.normalize(crops[:CALIBRATION]))
    classes = tuple(f"class {number}" for number in range(1000))
    info = BundleInfo(spec=network.spec, name=name, classes=classes, preprocess=preprocess)
    return Model(network.eval(), info, name)


def write_raw(model: Model, folder: Path) -> None:
    """Export torchvision's network as torch's documentation does, with a dynamic batch."""
    network = getattr(torchvision.models, str(model.info.name))(num_classes=1000)
    network.load_state_dict(model.module.state_dict())
    example = torch.from_numpy(normalised(folder, 2))
    torch.onnx.export(
        network.eval(), (example,), str(folder / RAW), dynamo=True, external_data=False, verbose=False,
        dynamic_shapes=({0: torch.export.Dim("N", min=1)},),
    )  # fmt: skip


def write_int8(model: Model, folder: Path) -> None:
    """Quantise torchvision's network by nncf, and restune's core graph by restune: the fastest of its versions.

    `quantize` itself chooses by how many labels change, which says nothing for random weights.
    """
    import nncf
    import openvino
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from restune.exporting.engines import core_graph

    rows = normalised(folder, CALIBRATION)
    data = nncf.Dataset([rows[n : n + 1] for n in range(CALIBRATION)])
    raw = nncf.quantize(openvino.convert_model(str(folder / RAW)), data, subset_size=CALIBRATION)
    openvino.save_model(raw, str(folder / RAW_INT8))
    prepared = folder / "prepared.onnx"
    with core_graph(model) as core:
        quant_pre_process(str(core), str(prepared), skip_symbolic_shape=True)
    _write_version(VERSIONS[0], prepared, folder / CORE_INT8, [np.load(folder / PIXELS)[:CALIBRATION]])
    prepared.unlink()


def folder_of_photos(folder: Path, photos: Path, count: int) -> Path:
    """Return a folder of so many links to the photos, each under several names where there are fewer."""
    links = folder / f"photos-{count}"
    if not links.is_dir():
        links.mkdir(parents=True)
        for number, path in enumerate(islice(cycle(photos_of(photos)), count)):
            (links / f"{number:06}.jpg").symlink_to(path.resolve())
    return links
