"""Cut a record's text into the chunks that a tag asks for."""

from vecmig.chunking.chunker import Chunker, chunker
from vecmig.chunking.tokenizer import local_tokenizer

__all__ = ["Chunker", "chunker", "local_tokenizer"]
