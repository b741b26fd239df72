"""Write docs/results.md and docs/zh/results.md from the stored rows: `python -m benchmarks.tables`."""

from benchmarks.tables.document import write

if __name__ == "__main__":
    write()
