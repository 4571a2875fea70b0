"""One file for each corpus: where its files lie, and its `data` group of the configuration.

To add a corpus, add a file here and one of its constructor's arguments in `conf/data/`. A corpus of single voices
derives from `FileVoices` or `DealtVoices`, one of ready mixtures from `SetData`, all in `separator.data.groups`.
"""
