"""What is written: task specifications and prompts."""
