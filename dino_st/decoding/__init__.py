"""Self-debiased decoding on any decoder-only transformers model; needs torch, transformers and numpy alone."""
