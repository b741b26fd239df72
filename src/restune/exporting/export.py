"""Export a model to several targets at once: build each, verify it in its own runtime, then put the files in place."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from restune.core.console import note
from restune.core.errors import UserError, did_you_mean
from restune.core.files import cannot_write
from restune.exporting import timm_folder, torchvision_state
from restune.exporting.deployable import Deployable, InputSpec, deployable, input_spec
from restune.exporting.golden import tolerance, write_golden
from restune.exporting.html_page import reject_other_inputs, write_page
from restune.exporting.metadata import metadata
from restune.exporting.onnx_graph import append_graph, run_batches, run_onnx, write_onnx
from restune.exporting.openvino_graph import probabilities_in_openvino, run_openvino, write_openvino
from restune.exporting.pixels import BytePixels
from restune.exporting.quantize import Int8Data, Int8Scores, compose, paired_scores, quantize, reject_drop
from restune.exporting.raw_examples import RawExample, batched
from restune.exporting.snippets import write_snippets
from restune.exporting.torch_program import run_program, write_program
from restune.exporting.verify import Agreement, compare, expected_answers, reject_disagreement
from restune.exporting.web_runtime import web_runtime
from restune.inference.model import Model

TARGETS = ("onnx", "openvino", "torch", "torchvision", "timm", "html")
QUANTISED = ("onnx", "openvino", "html")
"""Targets that --int8 applies to."""
GOLDEN = 8
"""Number of inputs in the golden files."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """One target's files.

    Args:
        files: their names in the folder.
        agreement: with the model, measured in the target's own runtime.
        how: the call that loads it.
        int8: accuracy before and after, of an int8 export.
        snippets: names of programs that run the export and compare it with the golden files.
    """

    files: tuple[str, ...]
    agreement: Agreement
    how: str
    int8: Int8Scores | None = None
    snippets: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the target's part of the command's JSON."""
        content = {
            "files": list(self.files),
            "snippets": list(self.snippets),
            "load": self.how,
            **asdict(self.agreement),
        }
        if self.int8 is not None:
            content |= {
                "accuracy_before": self.int8.before,
                "accuracy_after": self.int8.after,
                "accuracy_n": self.int8.n,
                "accuracy_difference": list(self.int8.difference),
                "labels_kept": self.int8.agreement,
            }
        return content


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every target starts from."""

    model: Model
    graph: Deployable
    inputs: InputSpec
    examples: Sequence[RawExample]
    expected: NDArray[np.float32]
    metadata: Mapping[str, str]
    folder: Path
    web_runtime: Path | None = None
    int8: Int8Data | None = None
    made: dict[str, Path] = field(default_factory=dict)


def export_model(
    model: Model,
    targets: Sequence[str],
    out: Path,
    examples: Sequence[RawExample],
    *,
    web_runtime: Path | None = None,
    int8: Int8Data | None = None,
) -> dict[str, Exported]:
    """Write the targets' files into a folder; if one of them fails, nothing is written.

    Args:
        model: on the CPU.
        targets: of `TARGETS`.
        out: the folder, created if missing.
        examples: inputs to compare on.
        web_runtime: see `exporting.web_runtime.web_runtime`.
        int8: quantise the graphs with these items.

    Raises UserError for an unknown target, a network that a target does not have, or an export that disagrees.
    """
    reject_unknown(targets)
    comparable = [example for example in examples if example.content is not None]
    graph, inputs = deployable(model), input_spec(model.preprocess)
    with tempfile.TemporaryDirectory(prefix="restune-export-") as name:
        job = Job(
            model=model,
            graph=graph,
            inputs=inputs,
            examples=comparable,
            expected=expected_answers(model, comparable),
            metadata=metadata(model, graph, inputs, "float32" if int8 is None else "int8"),
            folder=Path(name),
            web_runtime=web_runtime,
            int8=int8,
        )
        exported: dict[str, Exported] = {}
        for target in targets:
            exported[target] = _checked(job, target, _WRITERS[target](job))
            note(_summary(target, exported[target]))
        write_golden(job.folder, comparable[:GOLDEN], _golden_answers(job), model.classes, job.graph.answer)
        exported = {target: _with_snippets(job, target, one) for target, one in exported.items()}
        _put_in_place(job.folder, out, exported)
    return exported


def _with_snippets(job: Job, target: str, exported: Exported) -> Exported:
    answer = job.graph.answer
    return replace(exported, snippets=write_snippets(job.folder, target, job.inputs, answer.name, tolerance(answer)))


def _golden_answers(job: Job) -> NDArray[np.float32]:
    """Return the answers of the golden files: the model's, of int8 exports the quantised graph's."""
    if job.int8 is None:
        return job.expected[:GOLDEN]
    path = _onnx_file(job)
    return np.concatenate([run_onnx(path, one.raw)[job.graph.answer.name] for one in job.examples[:GOLDEN]])


def _checked(job: Job, target: str, exported: Exported) -> Exported:
    """Return the export if it computes what the model does: within rounding, or within the accepted loss of int8."""
    if job.int8 is None:
        reject_disagreement(exported.agreement, target)
        return exported
    scores = int8_scores(job, target)
    reject_drop(scores, job.int8.largest_drop)
    return replace(exported, int8=scores)


def reject_unknown(targets: Sequence[str], *, int8: bool = False) -> None:
    """Raise UserError for a target that there is not, for none, and for one that has no int8 form."""
    unknown = next((target for target in targets if target not in TARGETS), None)
    if unknown is not None or not targets:
        raise UserError(
            "no target is named" if unknown is None else f"unknown target {unknown!r}",
            where="--to",
            fix=did_you_mean(unknown or "", TARGETS) or f"use one or more of {', '.join(TARGETS)}",
        )
    floats = next((target for target in targets if int8 and target not in QUANTISED), None)
    if floats is not None:
        raise UserError(
            f"{floats} holds float weights only", where="--int8", fix=f"use --int8 with {', '.join(QUANTISED)}"
        )


def _onnx(job: Job) -> Exported:
    path = _onnx_file(job)
    found = [run_onnx(path, batch)[job.graph.answer.name] for batch in batched(job.examples)]
    return Exported(
        files=(path.name,), agreement=_agreement(job, found), how=f'onnxruntime.InferenceSession("{path.name}")'
    )


def _onnx_file(job: Job) -> Path:
    """Write model.onnx once, for all targets that start from it."""
    if "onnx" not in job.made:
        path = job.folder / "model.onnx"
        if job.int8 is None:
            write_onnx(job.graph, job.inputs, job.graph.output_names, path, job.metadata)
        else:
            pixels = job.folder / "pixels.onnx"
            resize = BytePixels(reject_other_inputs(job.model))
            write_onnx(resize, job.inputs, ("network_pixels",), pixels, {})
            compose(pixels, _core_file(job), path)
        job.made["onnx"] = path
    return job.made["onnx"]


def _core_file(job: Job) -> Path:
    """Write the graph from resized and cropped pixels once, quantised if wanted; the novelty score stays in float."""
    if "core" not in job.made:
        core = job.folder / "core.onnx"
        graph = deployable(job.model, cropped=True, novelty=False)
        write_onnx(graph, input_spec(job.model.preprocess, cropped=True), graph.output_names, core, job.metadata)
        job.made["float core"] = core
        if job.int8 is not None:
            batches = [job.int8.calibration[i : i + 32] for i in range(0, len(job.int8.calibration), 32)]
            core = quantize(core, job.folder / "core.int8.onnx", batches, job.int8.choosing)
        for made in {core, job.made["float core"]} if job.graph.novelty is not None else ():
            append_graph(made, _novelty_file(job))
        job.made["core"] = core
    return job.made["core"]


def _novelty_file(job: Job) -> Path:
    """Write the graph from embeddings to the novelty score once."""
    path = job.folder / "novelty.onnx"
    if not path.is_file():
        assert job.graph.novelty is not None
        example = torch.zeros(2, job.graph.head.in_features)
        write_onnx(job.graph.novelty, InputSpec("embedding", example, {0: "N"}), ("novelty",), path, {})
    return path


def int8_scores(job: Job, target: str) -> Int8Scores:
    """Compare the float and the int8 graph on labelled items, in the target's own runtime."""
    assert job.int8 is not None
    _core_file(job)
    data = job.int8
    parts = [data.samples[i : i + 64] for i in range(0, len(data.samples), 64)]
    run = probabilities_in_openvino if target == "openvino" else run_batches
    graphs = (job.made["float core"], job.made["core"])
    before, after = (np.concatenate([found.argmax(axis=1) for found in run(graph, parts)]) for graph in graphs)
    return paired_scores(before, after, data.targets)


def _openvino(job: Job) -> Exported:
    _reject_k_max(job)
    path = job.folder / "model.xml"
    files = write_openvino(_onnx_file(job), path, job.metadata)
    outputs = run_openvino(path, batched(job.examples), job.graph.output_names)
    how = 'openvino.Core().compile_model("model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})'
    return Exported(
        files=tuple(file.name for file in files),
        agreement=_agreement(job, [one[job.graph.answer.name] for one in outputs]),
        how=how,
    )


def _reject_k_max(job: Job) -> None:
    if getattr(job.model.spec, "pool", "") == "k-max":
        raise UserError(
            "OpenVINO has no sort that keeps the order of equal values, which k-max pooling needs",
            where="--to openvino",
            fix="use --to onnx or torch",
        )


def _torch(job: Job) -> Exported:
    path = write_program(job.graph, job.inputs, job.folder / "model.pt2", job.metadata)
    outputs = run_program(path, batched(job.examples), job.graph.output_names)
    found = [one[job.graph.answer.name] for one in outputs]
    return Exported(files=(path.name,), agreement=_agreement(job, found), how='torch.export.load("model.pt2").module()')


def _torchvision(job: Job) -> Exported:
    torchvision_state.torchvision_name(job.model)
    path, call = torchvision_state.write_torchvision(job.model, job.folder / "model.pth")
    network = torchvision_state.load_torchvision(path, call)
    return Exported(files=(path.name,), agreement=_of_network(job, network), how=call)


def _timm(job: Job) -> Exported:
    files = timm_folder.write_timm(job.model, job.folder)
    network = timm_folder.load_timm(job.folder)
    return Exported(
        files=tuple(file.name for file in files),
        agreement=_of_network(job, network),
        how='timm.create_model("local-dir:FOLDER", pretrained=True)',
    )


def _html(job: Job) -> Exported:
    preprocess = reject_other_inputs(job.model)
    core = _core_file(job)
    page = write_page(job.model, core, web_runtime(job.web_runtime), job.folder / "model.html")
    crops = [preprocess.apply(example.content)[None].numpy() for example in job.examples]
    found = np.concatenate(list(run_batches(core, crops)))
    return Exported(files=(page.name,), agreement=compare(job.expected, found), how="open model.html in a browser")


def _of_network(job: Job, network: torch.nn.Module) -> Agreement:
    """Compare a plain network, which takes preprocessed input, with the model."""
    preprocess, rows = job.model.preprocess, []
    for example in job.examples:
        inputs, _ = preprocess.inputs(preprocess.stack([preprocess.apply(example.content)]))
        with torch.inference_mode():
            rows.append(job.graph.answer(network(inputs)).numpy())
    return compare(job.expected, np.concatenate(rows), job.graph.answer)


def _agreement(job: Job, found: Sequence[NDArray[np.float32]]) -> Agreement:
    """Compare the outputs of `batched` examples with what was expected of each."""
    order = [row for shape in dict.fromkeys(_shapes(job)) for row, own in enumerate(_shapes(job)) if own == shape]
    return compare(job.expected[order], np.concatenate(found), job.graph.answer)


def _shapes(job: Job) -> list[tuple[int, ...]]:
    return [tuple(example.raw.shape) for example in job.examples]


def _summary(target: str, exported: Exported) -> str:
    agreement, int8 = exported.agreement, exported.int8
    written = f"{target}: {', '.join(exported.files)}"
    if int8 is not None:
        points = tuple(100 * value for value in int8.difference)
        return (
            f"{written}; int8 accuracy {int8.after:.2%} after {int8.before:.2%} on {int8.n:,} items ({points[0]:+.2f} "
            f"points, 95% interval {points[1]:+.2f} to {points[2]:+.2f}), {int8.agreement:.1%} of labels unchanged"
        )
    return (
        f"{written}; largest difference {agreement.max_difference:.2g}, labels agree on "
        f"{agreement.agreement:.1%} of {agreement.n} inputs"
    )


def _put_in_place(made: Path, out: Path, exported: Mapping[str, Exported]) -> None:
    """Move the verified files into the folder."""
    wanted = {name for one in exported.values() for name in (*one.files, *one.snippets)} | {"golden.npz", "golden.json"}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in sorted(wanted):
            temporary = out / f".{name}.new"
            shutil.copyfile(made / name, temporary)
            temporary.replace(out / name)
    except OSError as error:
        raise cannot_write(out, error) from error


_WRITERS: dict[str, Callable[[Job], Exported]] = {
    "onnx": _onnx,
    "openvino": _openvino,
    "torch": _torch,
    "torchvision": _torchvision,
    "timm": _timm,
    "html": _html,
}
