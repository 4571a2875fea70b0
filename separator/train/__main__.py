"""The command line."""

from separator.train.loop import main

if __name__ == "__main__":
    main()
