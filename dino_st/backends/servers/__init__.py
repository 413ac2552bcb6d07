"""What servers of OpenAI's protocol say: replies, log-probabilities of texts, batches."""
