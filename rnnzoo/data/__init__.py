"""Batches of sequences that know where each sequence begins, and vocabularies for text."""

from rnnzoo.data.buckets import bucket
from rnnzoo.data.files import read_csv, read_pairs, read_tagged, read_text
from rnnzoo.data.packing import pack
from rnnzoo.data.pairs import pairs
from rnnzoo.data.sound import LogMel
from rnnzoo.data.streams import stream
from rnnzoo.data.text import Vocabulary
from rnnzoo.data.tokenizer import Tokenizer

__all__ = [
    "LogMel",
    "Tokenizer",
    "Vocabulary",
    "bucket",
    "pack",
    "pairs",
    "read_csv",
    "read_pairs",
    "read_tagged",
    "read_text",
    "stream",
]
