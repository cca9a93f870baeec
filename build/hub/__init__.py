"""A model repository of a hub → its files on this disk, whole and exact."""
