"""Let `python -m pulsaga_program` run the command line."""

from pulsaga_program.cli import main

if __name__ == "__main__":
    main()
