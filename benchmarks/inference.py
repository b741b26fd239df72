"""Compare inference on this machine: restune's own call, torchvision, ONNX Runtime and OpenVINO, and the peak.

    python benchmarks/inference.py PHOTOS [--work FOLDER] [--only compute|folder|start] [--json FILE]

`compute`: images per second with decoded images in memory, at each batch size; the contenders, each in a process of its
own, and the machine's peaks (peaks.c) take turns in one run. `folder`: `restune.predict` over a folder of photos
against decoding alone and computing alone, in turns; the share is of the slower of the two. `start`: from the shell to
the answer for one photo, for a model and for its export. Medians over the rounds, with the range. The other load of the
machine is measured before every round. FOLDER keeps the exported graphs for the next run.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import peaks
from inference_contenders import BUNDLE, CONTENDERS, Contender, Worker

from restune.core.machine import cpu_count

PACKAGES = ("torch", "torchvision", "onnxruntime", "openvino", "nncf")
PARTS = ("compute", "folder", "start")
EAGER = "torchvision, eager float32"
FOLDER_ENGINES = ("restune, torch bf16", "restune, openvino bf16", "restune, openvino int8")


def main() -> None:
    options = _options()
    if options.work is not None:
        _measure(options, options.work)
        return
    with tempfile.TemporaryDirectory() as name:
        _measure(options, Path(name))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, help="folder of JPEG photos")
    parser.add_argument("--work", type=Path, help="folder for graphs, kept for the next run")
    parser.add_argument("--only", choices=PARTS, help="measure one part only")
    parser.add_argument("--model", default="resnet50", help="a network that torchvision has, too")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 1])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--limit", type=float, default=600.0, help="seconds of a part: it begins no round that would end later"
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="of each turn; at least one batch")
    parser.add_argument("--count", type=int, default=1024, help="photos of the part `folder`")
    parser.add_argument("--contenders", default="", help="only those whose name contains one of these words (a|b)")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--smoke", action="store_true", help="a tiny run that shows that everything works")
    options = parser.parse_args()
    if options.smoke:
        options.model, options.size, options.batches, options.rounds = "resnet18", 64, [2, 1], 1
        options.seconds, options.count = 0.0, 32
        options.contenders = options.contenders or "eager|Runtime|restune, torch float32|onnx"
    return options


def _measure(options: argparse.Namespace, work: Path) -> None:
    chosen = [one for one in CONTENDERS if any(word in one.key for word in options.contenders.split("|"))]
    _run_apart(_prepare, work, options, any(one.precision == "int8" for one in chosen))
    found: dict[str, Any] = {"run": describe_run(options)}
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "compute": lambda: compute(chosen, work, options, found["run"]["multiply_adds"]),
        "folder": lambda: folder(chosen, work, options),
        "start": lambda: start(work, options),
    }
    print(_heading(found["run"]))
    for name, measure in parts.items():
        if options.only in (None, name):
            found[name] = measure()
            print("\n".join(_PRINTERS[name](found[name])), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


def _run_apart(function: Callable[..., None], *arguments: Any) -> None:
    """Run a function in a process of its own, whose memory and threads are gone afterwards."""
    import multiprocessing

    process = multiprocessing.get_context("spawn").Process(target=function, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(process.exitcode)


def _prepare(work: Path, options: argparse.Namespace, int8: bool) -> None:
    from inference_inputs import prepare

    prepare(work, options.photos, options.model, options.size, int8=int8)


def describe_run(options: argparse.Namespace) -> dict[str, Any]:
    """Return the date, the machine, the versions and the network."""
    from restune.networks import zoo
    from restune.networks.describe import describe

    return {
        "date": datetime.date.today().isoformat(),
        "processor": processor(),
        "cores": cpu_count(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES if _is_installed(name)},
        "network": options.model,
        "size": options.size,
        "multiply_adds": describe(zoo.find(options.model).spec, options.size).flops,
        "rounds": options.rounds,
    }


def processor() -> str:
    """Return the processor's name and the instructions that matter here."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    lines = dict(line.split("\t: ", 1) for line in text.replace("\t\t:", "\t:").splitlines() if "\t: " in line)
    wanted = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "amx_bf16", "amx_int8")
    has = [flag for flag in wanted if flag in lines.get("flags", "").split()]
    model = f"family {lines.get('cpu family', '?')}, model {lines.get('model', '?')}"
    return f"{lines.get('model name', platform.machine())} ({model}; {', '.join(has)})"


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def compute(chosen: Sequence[Contender], work: Path, options: argparse.Namespace, multiply_adds: int) -> dict[str, Any]:
    """Time the contenders and the peaks in turns."""
    began = time.perf_counter()
    program = peaks.build(work)
    workers = {one.key: Worker(one, work, options.batches) for one in chosen}
    for worker in workers.values():
        worker.wait()
    tops: dict[str, list[float]] = {precision: [] for precision in peaks.PRECISIONS}
    rates: dict[tuple[str, int], list[float]] = {(key, batch): [] for batch in options.batches for key in workers}
    loads = []
    for _ in rounds_within(options.rounds, options.limit, began):
        loads.append(other_load())
        for precision, values in tops.items():
            values.append(0.0 if program is None else peaks.peak(program, precision, max(0.05, options.seconds / 4)))
        for (key, batch), values in rates.items():
            values.append(workers[key].turn(batch, options.seconds))
    for worker in workers.values():
        worker.stop()
    rows = [
        _row(one, batch, rates[one.key, batch], tops[one.precision], rates.get((EAGER, batch)), multiply_adds)
        for batch in options.batches
        for one in chosen
    ]
    return {"peaks": {name: _spread(values) for name, values in tops.items()}, "load": loads, "rows": rows}


def _row(
    one: Contender,
    batch: int,
    rates: Sequence[float],
    tops: Sequence[float],
    eager: Sequence[float] | None,
    multiply_adds: int,
) -> dict[str, Any]:
    return {
        "contender": one.name,
        "precision": one.precision,
        "batch": batch,
        "images_per_s": _spread(rates),
        "share_of_peak": share_of_peak(rates, tops, multiply_adds),
        "times_eager": ratio(rates, eager),
    }


def rounds_within(rounds: int, limit: float, began: float) -> Iterator[int]:
    """Yield the numbers of the rounds, at least one; none that would end later than so many seconds after `began`."""
    longest = 0.0
    for number in range(rounds):
        start = time.perf_counter()
        if number and start + longest - began > limit:
            print(f"stopped after {number} rounds: another would end after {limit:g} s")
            return
        yield number
        longest = max(longest, time.perf_counter() - start)


def share_of_peak(rates: Sequence[float], tops: Sequence[float], multiply_adds: int) -> float | None:
    """Return the median over the rounds of the multiply-adds done, as a share of the most possible in that round."""
    return None if not all(tops) else ratio([rate * multiply_adds for rate in rates], tops)


def ratio(values: Sequence[float], others: Sequence[float] | None) -> float | None:
    """Return the median over the rounds of the ratios of two rates of the same round."""
    if others is None:
        return None
    return statistics.median(value / other for value, other in zip(values, others, strict=True))


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def other_load(seconds: float = 0.3) -> float | None:
    """Return the share of the cores that is busy while this program waits; None where it is not known."""

    def times() -> tuple[int, int]:
        fields = [int(value) for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return sum(fields), fields[3] + fields[4]  # idle, and waiting for a disk

    try:
        before = times()
        time.sleep(seconds)
        after = times()
    except (OSError, ValueError, IndexError):
        return None
    return 1 - (after[1] - before[1]) / max(1, after[0] - before[0])


def folder(chosen: Sequence[Contender], work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Time `restune.predict` over a folder, decoding alone and computing alone."""
    from inference_folder import FolderWorker

    began = time.perf_counter()
    names = [one.key for one in chosen if one.engine and (options.smoke or one.key in FOLDER_ENGINES)]
    workers = {key: FolderWorker(key, work, options.photos, options.count) for key in names}
    found: dict[str, dict[str, list[float]]] = {key: {"decode": [], "compute": [], "predict": []} for key in names}
    loads = []
    for _ in rounds_within(min(3, options.rounds), options.limit, began):
        loads.append(other_load())
        for key, rates in found.items():
            for what, values in rates.items():
                values.append(workers[key].turn(what))
    for worker in workers.values():
        worker.stop()
    rows = [
        {
            "contender": key,
            **{what: _spread(values) for what, values in rates.items()},
            "share_of_slower": share_of_slower(**rates),
        }
        for key, rates in found.items()
    ]
    return {"photos": options.count, "load": loads, "rows": rows}


def share_of_slower(decode: Sequence[float], compute: Sequence[float], predict: Sequence[float]) -> float | None:
    """Return the median share that predicting reaches of the slower of decoding and computing alone."""
    return ratio(predict, [min(pair) for pair in zip(decode, compute, strict=True)])


def start(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Time `restune predict MODEL one.jpg` from the shell, for the model and for its export, in turns."""
    from restune.data.sources.folder import walk_images

    photo = next(path for path in walk_images(options.photos) if path.suffix.lower() == ".jpg")
    models = {"model": work / BUNDLE, "export": work / "export"}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    errors, loads = {}, []
    for turn in range(options.rounds + 1):
        loads.append(other_load())
        for name, model in models.items():
            command = [sys.executable, "-m", "restune", "predict", str(model), str(photo)]
            began = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
            if done.returncode:
                errors[name] = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else str(done.returncode)
            elif turn:  # the first reads files from disk
                seconds[name].append(time.perf_counter() - began)
    found = {name: _spread(values) for name, values in seconds.items() if values}
    return {"seconds": found, "errors": errors, "load": loads}


def _heading(run: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    return (
        f"{run['network']} at {run['size']}, {run['multiply_adds'] / 1e9:.2f} billion multiply-adds per image; "
        f"{run['date']}\n{run['cores']} cores of {run['processor']}\nPython {run['python']}, {versions}"
    )


def _load(loads: Sequence[float | None]) -> str:
    known = [load for load in loads if load is not None]
    return f"other load before the rounds: at most {max(known):.0%} of the cores" if known else "other load: unknown"


def _print_compute(found: dict[str, Any]) -> list[str]:
    lines = [_load(found["load"])]
    for name, peak in found["peaks"].items():
        rates = " to ".join(f"{peak[end] / 1e9:.0f}" for end in ("low", "high"))
        lines.append(f"peak {name:8} {peak['median'] / 1e9:6.0f} billion multiply-adds per second ({rates})")
    lines.append(f"{'batch':>5}  {'contender':24} {'precision':9} {'images/s':>24}  {'of peak':>7}  {'over eager':>10}")
    for row in found["rows"]:
        share = "-" if row["share_of_peak"] is None else f"{row['share_of_peak']:.0%}"
        times = "-" if row["times_eager"] is None else f"{row['times_eager']:.2f}"
        lines.append(
            f"{row['batch']:5}  {row['contender']:24} {row['precision']:9} "
            f"{_shown(row['images_per_s'], 1):>24}  {share:>7}  {times:>10}"
        )
    return lines


def _shown(values: dict[str, float], digits: int) -> str:
    return f"{values['median']:.{digits}f} ({values['low']:.{digits}f} to {values['high']:.{digits}f})"


def _print_folder(found: dict[str, Any]) -> list[str]:
    lines = [f"folder of {found['photos']} photos, images/s; {_load(found['load'])}"]
    for row in found["rows"]:
        parts = ", ".join(f"{what} {_shown(row[what], 0)}" for what in ("decode", "compute", "predict"))
        lines.append(f"{row['contender']:24} {parts}: {row['share_of_slower']:.2f} of the slower")
    return lines


def _print_start(found: dict[str, Any]) -> list[str]:
    lines = [f"from the shell to the answer for one photo; {_load(found['load'])}"]
    lines += [f"restune predict {name.upper():8} {_shown(values, 2)} s" for name, values in found["seconds"].items()]
    return lines + [f"restune predict {name.upper():8} failed: {text}" for name, text in found["errors"].items()]


_PRINTERS = {"compute": _print_compute, "folder": _print_folder, "start": _print_start}


if __name__ == "__main__":
    main()
