"""benchmarks/inference.py: its arithmetic, the loops of the peaks, and a small run of every part."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def inference():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import inference
    finally:
        sys.path.remove(str(BENCHMARKS))
    return inference


def test_shares_are_medians_of_the_ratios_of_one_round(inference):
    """The machine slowed down in the second round: its rates halve together with the peak and the others' rates."""
    rates, tops = [10.0, 5.0, 10.0], [100.0, 50.0, 80.0]
    assert inference.share_of_peak(rates, tops, multiply_adds=8) == pytest.approx(0.8)
    assert inference.ratio(rates, [20.0, 10.0, 40.0]) == pytest.approx(0.5)
    assert inference.share_of_peak(rates, [0.0, 0.0, 0.0], multiply_adds=8) is None, "the processor lacks it"
    shares = inference.share_of_slower(decode=[40.0, 10.0, 40.0], compute=[20.0, 20.0, 20.0], predict=[18.0, 9.0, 18.0])
    assert shares == pytest.approx(0.9)


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_peaks_are_loops_that_the_compiler_does_not_shorten(inference, tmp_path):
    """Twelve sums that the compiler knows to be equal would become one: a turn then does 12 times too little."""
    peaks = inference.peaks
    program = peaks.build(tmp_path)
    assert program is not None
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").is_file() else ""
    rates = {precision: peaks.peak(program, precision, 0.02) for precision in peaks.PRECISIONS}
    assert (rates["float32"] > 0) == ("fma" in flags or "avx512f" in flags)
    assert (rates["bf16"] > 0) == ("avx512_bf16" in flags)
    disassembler = shutil.which("objdump")
    if disassembler and "avx512_bf16" in flags:
        listing = subprocess.run([disassembler, "-d", program], capture_output=True, text=True, check=True).stdout
        assert listing.count("vdpbf16ps") >= 12


@pytest.mark.slow
def test_a_small_run_measures_every_part(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 90, 120, 3), dtype=np.uint8)
    for number, values in enumerate(pixels):
        Image.fromarray(values).save(tmp_path / f"{number}.jpg")
    command = [sys.executable, BENCHMARKS / "inference.py", tmp_path, "--smoke", "--json", tmp_path / "found.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    rows = {(row["contender"], row["batch"]): row for row in found["compute"]["rows"]}
    names = {"torchvision, eager", "ONNX Runtime", "restune, torch", "restune, onnx"}
    assert set(rows) == {(name, batch) for name in names for batch in (1, 2)}
    assert all(row["images_per_s"]["median"] > 0 for row in rows.values())
    assert rows["torchvision, eager", 1]["times_eager"] == 1.0
    assert [row["contender"] for row in found["folder"]["rows"]] == ["restune, torch float32", "restune, onnx float32"]
    assert found["start"]["seconds"]["model"]["median"] > 0
    for words in ("over eager", "of the slower", "restune predict MODEL"):
        assert words in done.stdout
