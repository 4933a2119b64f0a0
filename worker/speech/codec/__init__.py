"""BiCodec: reference audio to tokens, tokens to waveforms."""
