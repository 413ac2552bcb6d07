"""Triplets that a chat model writes (SynCSE, arXiv 2305.15077)."""
