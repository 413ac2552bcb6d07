"""Decoding with work of a fixed shape, for GPUs: a slot for every stream, Triton kernels, CUDA graphs."""
