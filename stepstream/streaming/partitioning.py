"""Which partition a key belongs to, as Java clients and `murmur2_random` decide it."""

__all__ = ["hash_of_key", "partition_of"]

SEED = 0x9747B28C
FACTOR = 0x5BD1E995
MASK = 0xFFFFFFFF


def partition_of(key: bytes, partition_count: int) -> int:
    """Number of the partition to which senders give a key.

    Parameters
    ----------
    key
        A message's key.
    partition_count
        Partitions of the topic.
    """
    return hash_of_key(key) % partition_count


def hash_of_key(key: bytes) -> int:
    """The number whose remainder, divided by the partition count, is the partition."""
    return _murmur2(key) & 0x7FFFFFFF


def _murmur2(data: bytes) -> int:
    """Kafka's hash of keys (``org.apache.kafka.common.utils.Utils.murmur2``), unsigned."""
    value = SEED ^ len(data)
    whole = len(data) & ~3
    for begin in range(0, whole, 4):
        word = int.from_bytes(data[begin : begin + 4], "little") * FACTOR & MASK
        word = (word ^ word >> 24) * FACTOR & MASK
        value = value * FACTOR & MASK ^ word
    if whole < len(data):
        value = (value ^ int.from_bytes(data[whole:], "little")) * FACTOR & MASK
    value = (value ^ value >> 13) * FACTOR & MASK
    return value ^ value >> 15
