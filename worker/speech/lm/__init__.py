"""The language model: `interface` says what the batch needs, two models give it."""
