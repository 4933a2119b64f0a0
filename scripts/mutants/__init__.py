"""Mutation testing: faults put into the code on purpose, each of which must turn a test red.

mutmut and cosmic-ray make faults of their own by the thousand and take none that were written by
hand; the faults here are those that a colleague might make and a user would suffer.
"""
