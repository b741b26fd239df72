"""``python -m restune`` is ``restune``."""

from restune.cli import main

if __name__ == "__main__":
    main()
