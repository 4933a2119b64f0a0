"""When each word of a known text is spoken: WhisperX's forced alignment on the finished audio."""
