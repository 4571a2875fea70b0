"""The command line."""

from separator.study.networks import main

if __name__ == "__main__":
    main()
