"""Hostile recipes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hostile_files.parts import EITHER, REFUSED, USED, Content, damaged, encoded, photo


def recipes(random: np.random.Generator) -> Iterator[Content]:
    laughs = "a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
        f"{here}: &{here} [{', '.join([f'*{above}'] * 9)}]\n"
        for above, here in zip("abcdefgh", "bcdefghi", strict=True)
    )
    texts = {
        "empty": "",
        "list": "- 1\n- 2\n",
        "number": "7",
        "text": "hello",
        "unknown key": "optimizer:\n  rl: 1\n",
        "key of a number": "1: 2\n",
        "key of a list": "? [a]\n: 1\n",
        "key that is null": "null: 1\n",
        "wrong type": "epochs: many\n",
        "list for a number": "epochs: [1, 2]\n",
        "section of text": "optimizer: sgd\n",
        "section of a list": "optimizer: [1]\n",
        "fraction": "epochs: 1.5\n",
        "truth": "optimizer:\n  lr: yes please\n",
        "nan": "optimizer:\n  lr: .nan\n",
        "infinite": "optimizer:\n  lr: .inf\n",
        "negative": "batch_size: -1\n",
        "huge": "epochs: 1" + "0" * 400 + "\n",
        "five thousand digits": "epochs: 1" + "0" * 5000 + "\n",
        "huge float": "optimizer:\n  lr: 1.0e+999\n",
        "workers": "workers: 1000000000\n",
        "threads": "threads: 1000000000\n",
        "hexadecimal": "epochs: 0x" + "f" * 6000 + "\n",
        "sexagesimal": "epochs: " + "9:" * 5000 + "9\n",
        "date": "epochs: 2024-99-99\n",
        "time": "epochs: 2024-01-01T99:99:99Z\n",
        "binary": "epochs: !!binary '?'\n",
        "empty number": "epochs: !!int ''\n",
        "empty fraction": "epochs: !!float ''\n",
        "no truth": "epochs: !!bool perhaps\n",
        "set": "epochs: !!set {1, 2}\n",
        "code": "epochs: !!python/object/apply:os.mkdir ['code ran']\n",
        "code by name": "epochs: !!python/name:os.system\n",
        "code by module": "epochs: !!python/module:os\n",
        "own tag": "epochs: !mine 1\n",
        "tag directive": "%TAG ! tag:yaml.org,2002:python/\n---\nepochs: !name:os.system\n",
        "billion laughs": laughs,
        "billion laughs in a number": laughs + "epochs: *i\n",
        "billion laughs in a spec": laughs + "spec:\n  width: *i\n",
        "billion laughs that are known": "milestones: &a [1, 1]\nschedule:\n  milestones: *a\n",
        "alias to itself": "spec: &a {width: *a}\n",
        "list in itself": "epochs: &a [*a]\n",
        "alias to nothing": "epochs: *nothing\n",
        "merged": "a: &a {x: 1}\nb: &b {<<: [*a, *a]}\n<<: [*a, *b]\n",
        "deep": "epochs: " + "[" * 5000 + "]" * 5000 + "\n",
        "deep mapping": "".join(f"{' ' * level}a:\n" for level in range(300)),
        "open": "epochs: [1, 2\n",
        "tabs": "optimizer:\n\tlr: 1\n",
        "two documents": "epochs: 1\n---\nepochs: 2\n",
        "NUL": "epochs: 1\0\n",
        "control": "epochs: \x07\n",
        "large": "# " + "x" * 5_000_000 + "\n",
        "many keys": "".join(f"k{number}: 1\n" for number in range(4000)),
        "spec of text": "spec: hello\n",
    }
    for kind, text in texts.items():
        yield kind, f"{kind}.yaml", text.encode(), REFUSED
    yield "listed twice", "twice.yaml", b"epochs: 1\nepochs: 2\n", EITHER
    yield "byte order mark", "bom.yaml", b"\xef\xbb\xbfepochs: 2\n", USED
    yield "number as text", "number as text.yaml", b"optimizer:\n  lr: 1e-3\n", USED
    yield "huge but meant", "seed.yaml", b"seed: 123456789012345678901234567890\n", EITHER
    yield "encoding", "utf-16.yaml", "epochs: 2\n".encode("utf-16"), REFUSED
    yield "encoding", "latin-1.yaml", "model: é\n".encode("latin-1"), REFUSED
    yield "noise", "noise.yaml", b"\xff\x00" + random.bytes(3000), REFUSED
    yield "noise", "zeros.yaml", bytes(3000), REFUSED
    yield "another format", "picture.yaml", encoded(photo(random), "PNG"), REFUSED
    yield from damaged(b"epochs: 3\noptimizer:\n  lr: 0.1\n  name: sgd\n", "recipe", "yaml", random, each=8)
