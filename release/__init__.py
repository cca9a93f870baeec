"""A new version goes live: built, proved, tried on a share of the traffic, and promoted or rolled back."""
