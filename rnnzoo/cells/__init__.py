"""Recurrent cells: one step each, and the loop that runs any of them over time."""

CELLS: dict[str, type] = {}
