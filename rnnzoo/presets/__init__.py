"""Presets: a trained model in a folder, with its card, its checksums and a golden output."""
