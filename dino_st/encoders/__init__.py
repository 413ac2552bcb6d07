"""Encoders on disk, encoders to train, and baselines to compare with."""
