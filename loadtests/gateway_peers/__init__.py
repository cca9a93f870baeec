"""``make bench-gateway PEERS=1``: our gateway beside litellm's proxy and Portkey's, each before an instant upstream."""
