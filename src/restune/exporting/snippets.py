"""Short programs beside an export that run it in other languages and compare its answers with the golden ones."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from restune.core.files import write_text
from restune.exporting.deployable import InputSpec

SNIPPETS = {
    "onnx": ("example.py", "example.cpp", "example.cs", "example.mjs"),
    "openvino": ("example_openvino.py",),
    "torch": ("example_torch.py",),
}
"""Programs by target."""
_ELEMENTS = {
    "uint8": ("uint8_t", "byte"),
    "float32": ("float", "float"),
    "int64": ("int64_t", "long"),
}
"""Of the input, in C++ and C#."""
_PHOTOS = '''
def predict_photo(session, path):
    """Return the answers for a photo of any size, upright as its EXIF data says."""
    from PIL import Image, ImageOps

    with Image.open(path) as photo:
        return predict(session, np.asarray(ImageOps.exif_transpose(photo).convert("RGB"))[None])[0]

'''
_MAIN = "    sys.exit(compare_with_golden(opened))"
_PHOTOS_MAIN = """    for photo in sys.argv[1:]:
        print(photo, predict_photo(opened, photo))
    sys.exit(0 if sys.argv[1:] else compare_with_golden(opened))"""


def write_snippets(folder: Path, target: str, inputs: InputSpec, output: str, tolerance: float) -> tuple[str, ...]:
    """Write a target's programs into the folder of its export and return their names.

    Args:
        folder: where ``model.onnx`` (or the target's other file) and the golden files are.
        target: of `SNIPPETS`; others have none.
        inputs: of the graph.
        output: name of the answers, the graph's first output.
        tolerance: largest difference from the golden answers.
    """
    values = _values(inputs, output, tolerance)
    names = SNIPPETS.get(target, ())
    for name in names:
        text = files("restune.exporting").joinpath("snippets", f"{name}.template").read_text(encoding="utf-8")
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        write_text(folder / name, text)
    return names


def _values(inputs: InputSpec, output: str, tolerance: float) -> dict[str, str]:
    """Return what stands for the templates' placeholders."""
    element = str(inputs.example.numpy().dtype)
    sizes = [inputs.axes.get(axis, str(size)) for axis, size in enumerate(inputs.example.shape)]
    photos = inputs.name == "images" and inputs.example.shape[-1] == 3
    return {
        "input": inputs.name,
        "output": output,
        "element": element,
        "shape": f"[{', '.join(sizes)}]",
        "cpp": _ELEMENTS[element][0],
        "cs": _ELEMENTS[element][1],
        "tolerance": f"{tolerance:.6g}",
        "pillow": " pillow" if photos else "",
        "usage": "               compare with the golden answers\n    python example.py PHOTO...      print the "
        "probabilities of photos"
        if photos
        else "",
        "photos": _PHOTOS if photos else "",
        "main": _PHOTOS_MAIN if photos else _MAIN,
    }
