"""The shells that users fit, and the factories that make them."""
