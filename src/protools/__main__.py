"""Let `python -m protools` run the command line."""

from protools.cli import main

if __name__ == "__main__":
    main()
