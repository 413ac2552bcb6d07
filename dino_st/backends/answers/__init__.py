"""How a reply becomes the sentence that was asked for, or is rejected by a counted reason."""
