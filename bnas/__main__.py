"""`python -m bnas`: the command line, as torchrun and friends start it."""

from bnas.cli.app import main

if __name__ == "__main__":
    main()
