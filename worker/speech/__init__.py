"""The model: sentences and a voice in, waveforms out. `engine` is its only door."""
