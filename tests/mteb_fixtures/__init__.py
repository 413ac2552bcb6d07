"""Synthetic data in SentEval layout, and encoders small enough to make on the spot."""

from tests.mteb_fixtures.encoders import make_bag_of_words, make_transformer
from tests.mteb_fixtures.senteval import write_sts_directory

__all__ = ["make_bag_of_words", "make_transformer", "write_sts_directory"]
