"""The outside world: one class per outside system."""
