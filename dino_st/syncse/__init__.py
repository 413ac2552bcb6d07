"""SynCSE (arXiv 2305.15077): triplets that a chat model writes."""
