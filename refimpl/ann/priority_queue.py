"""A binary heap on two arrays: the smallest key first, each key with a payload.

Entry i is no larger than entries 2 i + 1 and 2 i + 2, so entry 0 is the smallest; putting in and taking out move
O(log size) entries along one path. The caller keeps the size. Source: Williams 1964, "Algorithm 232: heapsort".
"""

from ..kernels import inner


@inner
def push(keys, payloads, size, key, payload):
    """Put (key, payload) into a heap of `size` entries, which then has one more. keys, payloads: INOUT."""
    at = size
    while at > 0 and keys[(at - 1) // 2] > key:
        keys[at], payloads[at] = keys[(at - 1) // 2], payloads[(at - 1) // 2]
        at = (at - 1) // 2
    keys[at], payloads[at] = key, payload


@inner
def drop_first(keys, payloads, size):
    """Remove entry 0 from a heap of `size` entries, which then has one less. keys, payloads: INOUT."""
    last = size - 1
    key, payload, at = keys[last], payloads[last], 0
    while 2 * at + 1 < last:
        child = 2 * at + 1
        if child + 1 < last and keys[child + 1] < keys[child]:
            child += 1
        if keys[child] >= key:
            break
        keys[at], payloads[at] = keys[child], payloads[child]
        at = child
    keys[at], payloads[at] = key, payload
