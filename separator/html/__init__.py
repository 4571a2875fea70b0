"""Parts of HTML pages: waveforms, spectrograms, a player."""
