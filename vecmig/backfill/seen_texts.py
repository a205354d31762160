"""Tell texts that were seen before from new ones, in memory that does not grow with the corpus."""

from __future__ import annotations

from typing import Final

#: Bits for each text that is expected, and places that a text takes: of a hundred new ones fewer than one is mistaken.
_BITS: Final = 16
_PLACES: Final = 4
#: Least memory, and most: for 50 million texts; with more of them more are mistaken, and looked up.
_LEAST_BYTES: Final = 2**18
_MOST_BYTES: Final = 64 * 2**20


class SeenTexts:
    """A Bloom filter of texts, by the digests of these (Bloom, Space/Time Trade-offs in Hash Coding, 1970)."""

    def __init__(self, expected: int) -> None:
        """See nothing yet.

        Args:
            expected: how many texts there may be.
        """
        size = min(_MOST_BYTES, max(_LEAST_BYTES, expected * _BITS // 8))
        # a power of two
        self._bits = bytearray(1 << (size - 1).bit_length())
        self._mask = len(self._bits) * 8 - 1

    def add(self, digest: str) -> bool:
        """Note a text; return whether it was there, or seems to."""
        # one hash in two halves gives all places (Kirsch and Mitzenmacher, Less Hashing, Same Performance, 2006)
        bits, mask, place = self._bits, self._mask, hash(digest)
        step, there = place >> 32 | 1, True
        for _ in range(_PLACES):
            byte, bit = (place & mask) >> 3, 1 << (place & 7)
            if not bits[byte] & bit:
                there = False
                bits[byte] |= bit
            place += step
        return there

    def __contains__(self, digest: str) -> bool:
        place = hash(digest)
        step = place >> 32 | 1
        places = ((place + i * step) & self._mask for i in range(_PLACES))
        return all(self._bits[at >> 3] & 1 << (at & 7) for at in places)
