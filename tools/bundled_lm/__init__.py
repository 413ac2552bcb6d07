"""Makes the language model that the package carries: data, tokenizer, training, measurements. Not installed."""
