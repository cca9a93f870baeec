"""OpenVINO: what of a deployment may be tuned. It has no options of its own: the spec's common fields say all."""
