"""The HTTP door: OpenAI's audio API and the worker's own, audio as it is made."""
