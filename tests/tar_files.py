"""WebDataset shards for tests: tars of small images and their labels."""

from __future__ import annotations

import io
import tarfile

from PIL import Image


def jpeg(shade=0):
    buffer = io.BytesIO()
    Image.new("RGB", (20, 16), (shade, 90, 200)).save(buffer, "JPEG")
    return buffer.getvalue()


def write(path, files):
    """A tar of (name, content) pairs; a content that is text is encoded."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files:
            content = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def shard(path, labels, first=0):
    """A shard of one sample a label: 0000.jpg and 0000.cls, ..."""
    files = []
    for number, label in enumerate(labels, first):
        files += [(f"{number:04d}.cls", f"{label}\n"), (f"{number:04d}.jpg", jpeg(number))]
    return write(path, files)


def summary(dataset):
    return [(item.id, dataset.classes[item.target], item.split) for item in dataset.items]


def three_shards(folder):
    """A folder of three shards of four samples, labels 10, 2 and 0."""
    for number in range(3):
        shard(folder / f"set-{number:03d}.tar", [10, 2, 0, 2], first=4 * number)
    return folder
