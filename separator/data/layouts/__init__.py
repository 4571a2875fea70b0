"""Corpora, one module each: the layout of the files, and the `data` group of the configuration.

To add a corpus, add a module here and a file with its constructor's arguments in `conf/data/`. A corpus of single
voices derives from `FileVoices` or `RandomSplitVoices`. A corpus of ready-made mixtures derives from `SetData`. These
classes are in `separator.data.groups`.
"""
