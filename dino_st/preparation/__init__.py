"""From raw pairs to training pairs and triplets."""
