"""Classic groups and their offsets."""

CASES = []
