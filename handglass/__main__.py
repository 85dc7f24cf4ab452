"""`python -m handglass`: the command, for where its script is not on the PATH."""

from handglass.cli.main import main

if __name__ == "__main__":
    main()
