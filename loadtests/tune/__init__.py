"""``make tune``: the settings of a deployment that carry the most goodput within its objectives."""
