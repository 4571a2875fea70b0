"""`python -m separator.web`: a page in the browser where recordings are dropped, separated, seen and heard."""
