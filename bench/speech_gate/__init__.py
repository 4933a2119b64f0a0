"""How well sentences are judged without the times of their words: python -m bench.speech_gate."""
