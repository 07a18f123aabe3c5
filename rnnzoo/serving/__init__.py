"""Models outside the process that trained them: what an export offers, and how it is used."""

from rnnzoo.serving.client import Served, Stream, load_served

__all__ = ["Served", "Stream", "load_served"]
