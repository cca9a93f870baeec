"""A fuzz of every door: cases made of what is published, and broken in every layer; what hurt is kept in corpus/."""
