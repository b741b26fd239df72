"""Write docs/results.md and docs/zh/results.md from the stored rows: `python -m benchmarks.tables`."""

from benchmarks.tables.common import complete
from benchmarks.tables.document import tables, write

if __name__ == "__main__":
    for table in tables():
        complete(table)
    write()
