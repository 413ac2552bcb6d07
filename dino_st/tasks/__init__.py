"""What a language model is asked for: task specifications and prompts."""
