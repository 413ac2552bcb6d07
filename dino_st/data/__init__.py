"""Data on disk: sentences, shards of generated rows, pairs, triplets, cards."""
