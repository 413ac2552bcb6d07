"""Runs that write pairs or texts, score them, or join them."""
