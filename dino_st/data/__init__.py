"""Files: sentences, shards of generated rows, pairs, triplets, tables, dataset cards."""
