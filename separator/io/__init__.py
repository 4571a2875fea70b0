"""Read and write recordings: formats, samples, paths and atomic writing of files."""
