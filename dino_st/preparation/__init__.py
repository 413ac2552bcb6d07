"""From raw pairs to training pairs and triplets: filters, targets, negatives, splits."""
