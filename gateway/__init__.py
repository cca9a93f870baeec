"""The OpenAI-compatible front door: any OpenAI client on one side, the ensemble over gRPC on the other."""
