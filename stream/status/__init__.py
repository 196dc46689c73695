"""What Redis holds of each model: its queues, its consumers and what they do."""
