"""What goes to a terminal, and what stays away from it."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from restune.core.console import StatusFields, fitted_status

FIELDS = StatusFields(
    "epoch 3/20", 0.25, ("loss 0.1234", "12:30 left", "budget 13:00", "val 83.1%", "1234 images/s", "lr 0.05")
)


@pytest.mark.parametrize("width", [0, 9, 20, 40, 60, 80, 200])
def test_a_status_line_fits_and_leaves_out_the_least_important(width):
    line = fitted_status(FIELDS, width)
    assert len(line) <= width
    shown = [part in line for part in FIELDS.parts]
    assert shown == sorted(shown, reverse=True)
    assert all(shown) == (width == 200)
    bar = re.findall("[━─]", line)
    assert not bar or bar.count("━") == round(len(bar) / 4)


def on_a_terminal(arguments, columns, folder):
    """Run the command line with standard error on a terminal of so many columns; return what it showed."""
    import fcntl
    import struct
    import termios

    main, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    clean = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "TERM", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "restune", *map(str, arguments)], stdout=subprocess.PIPE, stderr=end, cwd=folder,
        env={**clean, "TERM": "xterm-256color"}, text=True,
    )  # fmt: skip
    os.close(end)
    shown = b""
    while True:
        try:
            block = os.read(main, 65536)
        except OSError:  # the process has ended
            break
        if not block:
            break
        shown += block
    printed = process.communicate(timeout=240)[0]
    os.close(main)
    assert process.returncode == 0, shown.decode()
    return printed, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())


@pytest.mark.slow
def test_an_epoch_on_a_terminal(write_noise, tmp_path):
    data = write_noise(tmp_path / "data", (32, 32), dark=(0, 100), light=(120, 100))
    words = ["train", data, "--model", "resnet8", "--epochs", 2, "--out", tmp_path / "run", "--batch-size", 2]
    printed, shown = on_a_terminal(words, 110, tmp_path)
    lines = [line for line in re.split(r"[\r\n]+", shown) if re.search("[━─]{6}", line)]
    assert lines, shown
    assert all(len(line) <= 110 for line in lines)
    assert re.search(r"epoch [12]/2 [━─]+ loss \d+\.\d+  [\d:]+( s)? left .*\d+ images/s  lr 0\.\d+", "\n".join(lines))
    assert any("val " in line for line in lines), "from the second epoch on"
    assert "validation accuracy" in printed
    assert "━" not in printed
