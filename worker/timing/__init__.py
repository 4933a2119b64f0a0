"""Word timings of a known text: WhisperX's forced alignment on the finished audio."""
