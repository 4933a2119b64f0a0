"""The demo voice: how its checkpoint is made."""
