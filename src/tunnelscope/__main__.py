"""`python -m tunnelscope`: the command line, where its script is not on the path."""

from tunnelscope.cli import main

if __name__ == "__main__":
    main()
