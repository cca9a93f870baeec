"""token ids → text: the last stage."""
