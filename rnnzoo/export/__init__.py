"""Export: pure functions of named tensors, state in and state out, one file a format."""
