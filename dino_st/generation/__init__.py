"""Runs that write pairs or texts, score written pairs, or join shards."""
