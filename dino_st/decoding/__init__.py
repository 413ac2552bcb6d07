"""Decoding with self-debiasing: prompts in, texts out; needs torch, transformers and NumPy alone."""
