"""SGLang's double: see tests/doubles/README.md."""
