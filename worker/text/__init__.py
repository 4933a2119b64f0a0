"""Written text: its sentences, its words, and how a word may be spoken."""
