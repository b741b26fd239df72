"""Export a model to several targets at once: build each, verify it in its own runtime, then put the files in place."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from restune.exporting.deployable import Deployable, InputSpec, deployable, input_spec, novelty_of_graph
from restune.exporting.golden import tolerance, write_golden
from restune.exporting.html_page import reject_other_inputs, write_page
from restune.exporting.metadata import metadata
from restune.exporting.novelty_check import (
    FalseAlarms,
    NoveltyAgreement,
    compare_novelty,
    false_alarms,
    reject_other_novelty,
)
from restune.exporting.onnx_graph import append_graph, outputs_in_onnx, write_onnx
from restune.exporting.openvino_graph import outputs_in_openvino, run_openvino, write_openvino
from restune.exporting.pixels import BytePixels
from restune.exporting.quantize import Int8Data, Int8Scores, compose, paired_scores, quantize, reject_drop
from restune.exporting.raw_examples import RawExample, batched
from restune.exporting.snippets import write_snippets
from restune.exporting.tokenizer_files import write_tokenizer
from restune.exporting.torch_program import run_program, write_program
from restune.exporting.verify import Agreement, Expected, compare, expected_answers, reject_disagreement
from restune.exporting.web_runtime import web_runtime
from restune.inference.model import Model

TARGETS = ("onnx", "openvino", "torch", "torchvision", "timm", "html")
QUANTISED = ("onnx", "openvino", "html")
"""Targets that --int8 applies to."""
GOLDEN, GOLDEN_BYTES = 8, 16 * 2**20
"""Inputs in the golden files at most, and their size; one is there however large it is."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """One target's files.

    Args:
        files: their names in the folder.
        agreement: with the model, measured in the target's own runtime.
        how: the call that loads it.
        novelty: agreement of the novelty scores, where the export has them.
        false_alarms: of an int8 export with novelty scores, before and after.
        int8: accuracy before and after, of an int8 export.
        snippets: names of programs that run the export and compare it with the golden files.
    """

    files: tuple[str, ...]
    agreement: Agreement
    how: str
    int8: Int8Scores | None = None
    novelty: NoveltyAgreement | None = None
    false_alarms: FalseAlarms | None = None
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
        if self.novelty is not None:
            content["novelty"] = asdict(self.novelty)
        if self.false_alarms is not None:
            content["false_alarms"] = asdict(self.false_alarms)
        return content


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every target starts from."""

    model: Model
    graph: Deployable
    inputs: InputSpec
    examples: Sequence[RawExample]
    expected: Expected
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
    graph, inputs = deployable(model), input_spec(model.preprocess)
    with tempfile.TemporaryDirectory(prefix="restune-export-") as name:
        job = Job(
            model=model,
            graph=graph,
            inputs=inputs,
            examples=examples,
            expected=expected_answers(model, examples),
            metadata=metadata(model, graph, inputs, "float32" if int8 is None else "int8"),
            folder=Path(name),
            web_runtime=web_runtime,
            int8=int8,
        )
        exported: dict[str, Exported] = {}
        for target in targets:
            exported[target] = _checked(job, target, _WRITERS[target](job))
            note(_summary(target, exported[target]))
            _note_novelty(exported[target])
        beside = write_golden(job.folder, golden_examples(examples), _golden_answers(job), model, graph.answer)
        beside += write_tokenizer(job.folder, model.preprocess)
        exported = {target: _with_snippets(job, target, one) for target, one in exported.items()}
        _put_in_place(job.folder, out, exported, beside)
    return exported


def _with_snippets(job: Job, target: str, exported: Exported) -> Exported:
    answer = job.graph.answer
    return replace(exported, snippets=write_snippets(job.folder, target, job.inputs, answer.name, tolerance(answer)))


def golden_examples(examples: Sequence[RawExample]) -> Sequence[RawExample]:
    """Return the examples of the golden files: the first ones, fewer of large inputs."""
    sizes = np.cumsum([one.raw.nbytes for one in examples[:GOLDEN]])
    return examples[: max(1, int((sizes <= GOLDEN_BYTES).sum()))]


def _golden_answers(job: Job) -> Expected:
    """Return the answers of the golden files: the model's, of int8 exports the quantised graph's."""
    examples, novelty = golden_examples(job.examples), job.expected.novelty
    if job.int8 is None:
        count = len(examples)
        return Expected(answers=job.expected.answers[:count], novelty=None if novelty is None else novelty[:count])
    found = _rows(job, outputs_in_onnx(_onnx_file(job), (one.raw.numpy() for one in examples)))
    return Expected(answers=found[job.graph.answer.name], novelty=found.get("novelty"))


def _rows(job: Job, batches: Iterable[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[np.float32]]:
    """Return the answers and, where there are some, novelty scores of all batches."""
    kept, names = list(batches), (job.graph.answer.name, "novelty")
    return {name: np.concatenate([one[name] for one in kept]) for name in names if name in kept[0]}


def _checked(job: Job, target: str, exported: Exported) -> Exported:
    """Return the export if it computes what the model does: within rounding, or within the accepted loss of int8."""
    if job.int8 is None:
        reject_disagreement(exported.agreement, target)
        if exported.novelty is not None:
            reject_other_novelty(exported.novelty, target)
        return exported
    scores, alarms = int8_scores(job, target)
    reject_drop(scores, job.int8.largest_drop)
    return replace(exported, int8=scores, false_alarms=alarms)


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
    outputs = outputs_in_onnx(path, (batch.numpy() for batch in batched(job.examples)))
    return _graph(job, (path,), outputs, f'onnxruntime.InferenceSession("{path.name}")')


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


def int8_scores(job: Job, target: str) -> tuple[Int8Scores, FalseAlarms | None]:
    """Compare the float and the int8 graph on labelled items, in the target's own runtime."""
    assert job.int8 is not None
    _core_file(job)
    data = job.int8
    parts = [data.samples[i : i + 64] for i in range(0, len(data.samples), 64)]
    run = outputs_in_openvino if target == "openvino" else outputs_in_onnx
    known = novelty_of_graph(job.model)
    names = ("probabilities",) if known is None else ("probabilities", "novelty")
    before, after = (_rows(job, run(job.made[graph], parts, names)) for graph in ("float core", "core"))
    alarms = None if known is None else false_alarms(before["novelty"], after["novelty"], known.threshold)
    labels, kept = before["probabilities"].argmax(axis=1), after["probabilities"].argmax(axis=1)
    return paired_scores(labels, kept, data.targets), alarms


def _openvino(job: Job) -> Exported:
    _reject_k_max(job)
    path = job.folder / "model.xml"
    files = write_openvino(_onnx_file(job), path, job.metadata)
    outputs = run_openvino(path, batched(job.examples), job.graph.output_names)
    how = 'openvino.Core().compile_model("model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})'
    return _graph(job, files, outputs, how)


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
    return _graph(job, (path,), outputs, 'torch.export.load("model.pt2").module()')


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
    crops = [example.sample(preprocess)[None].numpy() for example in job.examples]
    found = _rows(job, outputs_in_onnx(core, crops))
    how, order = "open model.html in a browser", list(range(len(job.examples)))
    return _compared(job, (page,), found, order, how)


def _of_network(job: Job, network: torch.nn.Module) -> Agreement:
    """Compare a plain network, which takes preprocessed input, with the model."""
    preprocess, rows = job.model.preprocess, []
    for example in job.examples:
        inputs, _ = preprocess.inputs(preprocess.stack([example.sample(preprocess)]))
        with torch.inference_mode():
            rows.append(job.graph.answer(network(inputs)).numpy())
    return compare(job.expected.answers, np.concatenate(rows), job.graph.answer)


def _graph(job: Job, files: Sequence[Path], outputs: Iterable[Mapping[str, NDArray[Any]]], how: str) -> Exported:
    """Compare a graph's outputs of `batched` examples with what was expected of each."""
    order = [row for shape in dict.fromkeys(_shapes(job)) for row, own in enumerate(_shapes(job)) if own == shape]
    return _compared(job, files, _rows(job, outputs), order, how)


def _compared(
    job: Job, files: Sequence[Path], found: Mapping[str, NDArray[np.float32]], order: Sequence[int], how: str
) -> Exported:
    """Return an export with its agreement; `order` are the examples' places of the rows of `found`."""
    known, scores = novelty_of_graph(job.model), job.expected.novelty
    alike = None
    if known is not None and scores is not None:
        alike = compare_novelty(scores[order], found["novelty"], known.threshold)
    return Exported(
        files=tuple(file.name for file in files),
        agreement=compare(job.expected.answers[order], found[job.graph.answer.name], job.graph.answer),
        how=how,
        novelty=alike,
    )


def _shapes(job: Job) -> list[tuple[int, ...]]:
    return [tuple(example.raw.shape) for example in job.examples]


def _note_novelty(exported: Exported) -> None:
    """Say how far novelty scores agree, or how int8 changes the false alarms."""
    alarms, alike = exported.false_alarms, exported.novelty
    if alarms is not None:
        change = 100 * (alarms.after - alarms.before)
        note(
            f"novelty: int8 calls {alarms.after:.2%} of {alarms.n:,} held-out items unlike the training data, float "
            f"{alarms.before:.2%} ({change:+.2f} points)"
        )
    elif alike is not None:
        note(
            f"novelty: largest difference of a score {alike.max_difference:.2g}, {alike.agreement:.1%} of {alike.n} "
            f"inputs called alike"
        )


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


def _put_in_place(made: Path, out: Path, exported: Mapping[str, Exported], beside: Sequence[Path]) -> None:
    """Move the verified files, and those beside them, into the folder."""
    wanted = {name for one in exported.values() for name in (*one.files, *one.snippets)}
    wanted |= {path.name for path in beside}
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
