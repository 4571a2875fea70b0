"""The command line."""

from separator.evaluate.evaluation import main

if __name__ == "__main__":
    main()
