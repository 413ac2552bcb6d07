"""Training an encoder on pairs, on triplets, or on both."""
