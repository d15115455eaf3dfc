"""``python -m tutelage`` is the same as the command ``tutelage``."""

from tutelage.cli import main

if __name__ == "__main__":
    main()
