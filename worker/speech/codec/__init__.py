"""BiCodec: reference audio to tokens, and tokens to waveforms."""
