"""Decoding with self-debiasing: prompts in, texts out; torch, transformers and NumPy alone."""
