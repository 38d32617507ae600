"""Expand a sparse GGUF to an ordinary one: python3 reader.py sparse.gguf out.gguf

An independent reader of the format in ../SPEC.md, written from that document; needs only numpy.
It reads both layouts. It shows what the format means, not how to be fast; it checks little and
compares no checksums.
"""
import struct
import sys

import numpy as np

SCALARS = {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "<u1", 10: "<u8", 11: "<i8", 12: "<f8"}
STRING, ARRAY = 8, 9
RESERVED = ("besa.format.", "besa.tensors.", "besa.dense.", "besa.expand.", "besa.header.")
Q4_SYM, Q4_ASYM, F16, BF16, Q8_SYM = 1, 2, 3, 4, 5
TYPE = {Q4_SYM: 2, Q4_ASYM: 3, F16: 1, BF16: 30, Q8_SYM: 8}
NIBBLES, VALUES = (Q4_SYM, Q4_ASYM), (F16, BF16)
TILE, STRIP, BLOCK = 16, 8, 1 << 17
RAW, REPEAT, HUFFMAN = 0, 1, 2


class Cursor:
    """Reads fields of a bytes object from a moving position."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        self.at += n
        return self.data[self.at - n : self.at]

    def one(self, fmt):
        return struct.unpack("<" + fmt, self.take(struct.calcsize(fmt)))[0]

    def text(self):
        return self.take(self.one("Q"))

    def value(self, typ):
        if typ == STRING:
            return self.text().decode(errors="surrogateescape")
        if typ == ARRAY:
            elem, n = self.one("I"), self.one("Q")
            if elem in SCALARS:
                dtype = np.dtype(SCALARS[elem])
                return np.frombuffer(self.take(n * dtype.itemsize), dtype)
            return [self.value(elem) for _ in range(n)]
        dtype = np.dtype(SCALARS[typ])
        return np.frombuffer(self.take(dtype.itemsize), dtype)[0]


def parse(data):
    """Returns the pairs, key -> (type, raw bytes, value), the tensors, and where their data starts."""
    c = Cursor(data)
    assert c.take(4) == b"GGUF" and c.one("I") == 3, "not a GGUF v3 file"
    n_tensors, n_pairs = c.one("Q"), c.one("Q")
    pairs = {}
    for _ in range(n_pairs):
        key, typ = c.text().decode(), c.one("I")
        start = c.at
        value = c.value(typ)
        pairs[key] = (typ, data[start : c.at], value)
    tensors = []
    for _ in range(n_tensors):
        name = c.text().decode()
        shape = [c.one("Q") for _ in range(c.one("I"))]
        tensors.append((name, shape, c.one("I"), c.one("Q")))
    align = int(pairs["general.alignment"][2]) if "general.alignment" in pairs else 32
    return pairs, tensors, c.at + -c.at % align, align


def nibbles(b):
    """Low nibbles and high nibbles of bytes, alternating."""
    b = np.frombuffer(b, np.uint8)
    return np.stack([b & 15, b >> 4], axis=1).reshape(-1)


class Tile:
    """The sections of a tile as arrays, and its halves."""

    def __init__(self, coding, masks, scales, zeros, stream, halves):
        self.coding, self.masks, self.scales, self.zeros, self.stream, self.halves = coding, masks, scales, zeros, stream, halves

    def rows(self):
        """Yields (kept, survivors, scales, zeros) of each row."""
        place, seen = [0, 0], [0, 0]  # by plane: survivors and rows so far
        for r in range(len(self.masks)):
            plane = self.halves >> r & 1
            slot = 2 * seen[plane] + plane if self.coding in NIBBLES else r
            seen[plane] += 1
            n, p = int(self.masks[slot].sum()), place[plane]
            place[plane] += n
            if self.coding in NIBBLES:
                survivors = self.stream[p : p + n] >> (4 * plane) & 15
            elif self.coding == Q8_SYM:
                survivors = self.stream[p : p + n]
            else:
                survivors = self.stream[2 * p : 2 * (p + n)].view("<u2")
            yield self.masks[slot], survivors, self.scales[slot], self.zeros[slot]


class Shape:
    """The numbers of a blob, and the sizes of sections of n rows."""

    def __init__(self, coding, group, cols, rows):
        self.coding, self.group, self.cols, self.rows = coding, group, cols, rows
        self.words, self.groups = -(-cols // 64), -(-cols // group) if group else 0

    def tile_heights(self, first, count):
        """Rows of each of count tiles."""
        return [min(TILE, self.rows - TILE * t) for t in range(first, min(first + count, -(-self.rows // TILE)))]

    def zero_bytes(self, n):
        return (self.groups * n + 1) // 2 if self.coding == Q4_ASYM else 0

    def zeros(self, raw, n):
        if self.coding == Q4_ASYM:
            return nibbles(raw)[: self.groups * n].reshape(n, self.groups)
        return np.full((n, self.groups), 8 if self.coding == Q4_SYM else 0, np.uint8)

    def stream_bytes(self, masks):
        """Length of a tile's stream, from its masks in slot order."""
        if self.coding in NIBBLES:
            return max(int(masks[0::2].sum()), int(masks[1::2].sum()))
        return int(masks.sum()) * (2 if self.coding in VALUES else 1)


def plain_tiles(blob, s):
    """Yields the tiles of a plain blob (section 3)."""
    heights = s.tile_heights(0, s.rows)
    tiles = len(heights)
    offsets = np.frombuffer(blob[32 : 32 + 4 * tiles], "<u4")
    halves = np.zeros(tiles, "<u2")
    if s.coding in NIBBLES:
        halves = np.frombuffer(blob[36 + 4 * tiles : 36 + 6 * tiles], "<u2")
    for t, n in enumerate(heights):
        c = Cursor(blob)
        c.at = 8 * int(offsets[t])
        raw = np.frombuffer(c.take(8 * s.words * n), np.uint8)
        masks = np.unpackbits(raw, bitorder="little").reshape(n, 64 * s.words)[:, : s.cols].astype(bool)
        scales = np.frombuffer(c.take(2 * s.groups * n), "<u2").reshape(n, s.groups)
        zeros = s.zeros(c.take(s.zero_bytes(n)), n)
        stream = np.frombuffer(c.take(s.stream_bytes(masks)), np.uint8)
        yield Tile(s.coding, masks, scales, zeros, stream, int(halves[t]))


def packed_tiles(blob, s):
    """Yields the tiles of a packed blob (section 4)."""
    per_chunk = struct.unpack("<I", blob[32:36])[0]
    tiles = -(-s.rows // TILE)
    chunks = -(-tiles // per_chunk)
    sizes = np.frombuffer(blob[40 + 8 * chunks : 40 + 12 * chunks], "<u4")
    at = 40 + 12 * chunks
    for k, size in enumerate(sizes):
        yield from chunk_tiles(Sections(blob[at : at + int(size)]), s, s.tile_heights(k * per_chunk, per_chunk))
        at += int(size)


def chunk_tiles(c, s, heights):
    """Yields the tiles, of the given heights, of a chunk."""
    halves = c.section(2 * len(heights) if s.coding in NIBBLES else 0).view("<u2")
    classes = c.section(s.cols)
    strips = [min(STRIP, n - r) for n in heights for r in range(0, n, STRIP)]
    columns = np.zeros((len(strips), s.cols), np.uint8)
    for k in range(16):
        members = np.flatnonzero(classes == k)
        columns[:, members] = c.section(len(strips) * len(members)).reshape(len(strips), len(members))
    slots = np.concatenate([np.unpackbits(columns[i][None], axis=0, bitorder="little")[:n] for i, n in enumerate(strips)]).astype(bool)
    ends = np.cumsum(heights)
    masks = [slots[end - n : end] for end, n in zip(ends, heights)]
    lengths = [s.stream_bytes(m) for m in masks]
    scales = c.planes(2 * s.groups * sum(heights), 2).view("<u2").reshape(sum(heights), s.groups)
    zeros = Cursor(c.section(sum(s.zero_bytes(n) for n in heights)).tobytes())
    stream = c.planes(sum(lengths), 2 if s.coding in VALUES else 1)
    assert c.at == len(c.data), "bytes after the last section"
    at = 0
    for t, n in enumerate(heights):
        z = s.zeros(zeros.take(s.zero_bytes(n)), n)
        yield Tile(s.coding, masks[t], scales[ends[t] - n : ends[t]], z, stream[at : at + lengths[t]], int(halves[t]) if len(halves) else 0)
        at += lengths[t]


class Sections(Cursor):
    """Reads the sections of a chunk."""

    def planes(self, n, width):
        return np.stack([self.section(n // width) for _ in range(width)], axis=1).reshape(-1)

    def section(self, n):
        return np.concatenate([np.zeros(0, np.uint8)] + [self.block(min(BLOCK, n - at)) for at in range(0, n, BLOCK)])

    def block(self, n):
        field = self.one("I")
        mode, stored = field & 3, self.take(field >> 2)
        if mode == RAW:
            out = stored
        elif mode == REPEAT:
            out = stored * n
        else:
            assert mode == HUFFMAN, "unknown mode"
            out = huffman(stored, n)
        assert len(out) == n, "a block of the wrong length"
        return np.frombuffer(out, np.uint8)


def huffman(data, n):
    """RFC 8878, 4.2: a Huffman tree description, a jump table, four streams."""
    head = data[0]
    if head >= 128:
        at = 1 + (head - 127 + 1) // 2
        weights = [w for b in data[1:at] for w in (b >> 4, b & 15)][: head - 127]
    else:
        at = 1 + head
        weights = fse_weights(data[1:at])
    total = sum(1 << w - 1 for w in weights if w)
    log = total.bit_length()
    weights.append(((1 << log) - total).bit_length())
    table = []
    for weight in range(1, log + 1):
        for symbol, w in enumerate(weights):
            if w == weight:
                table += [(symbol, log + 1 - w)] * (1 << w - 1)
    assert len(table) == 1 << log, "the code is not complete"
    ends = np.cumsum(struct.unpack("<3H", data[at : at + 6])).tolist()
    at += 6
    starts = [at] + [at + e for e in ends]
    quarter = (n + 3) // 4
    out = bytearray()
    for start, end, count in zip(starts, starts[1:] + [len(data)], [quarter] * 3 + [n - 3 * quarter]):
        bits = Backwards(data[start:end])
        for _ in range(count):
            symbol, used = table[bits.peek(log)]
            bits.left -= used
            out.append(symbol)
        assert bits.left == 0, "a stream of the wrong length"
    return bytes(out)


class Backwards:
    """A bit stream that is read from its end; above its first bit stands a 1."""

    def __init__(self, data):
        self.data, self.left = data, 8 * len(data) - 9 + data[-1].bit_length()

    def peek(self, n):
        """The next n bits; behind the last one are zeros."""
        low = self.left - n
        if low < 0:
            return (int.from_bytes(self.data[:4], "little") & (1 << max(self.left, 0)) - 1) << -low
        return int.from_bytes(self.data[low >> 3 : (low >> 3) + 4], "little") >> (low & 7) & (1 << n) - 1

    def take(self, n):
        v = self.peek(n)
        self.left -= n
        return v


def fse_weights(data):
    """RFC 8878, 4.2.1.2: weights in a finite state entropy code with two states."""
    log, probabilities, at = fse_probabilities(data)
    table = fse_table(log, probabilities)
    bits = Backwards(data[at:])
    states, out = [bits.take(log), bits.take(log)], []
    while True:
        for k in range(2):
            symbol, n, base = table[states[k]]
            out.append(symbol)
            states[k] = base + bits.take(n)
            if bits.left < 0:
                return out + [table[states[1 - k]][0]]


def fse_probabilities(data):
    """RFC 8878, 4.1.1."""
    bits, at = int.from_bytes(data, "little"), 4
    log, probabilities = (bits & 15) + 5, []
    remaining = 1 << log
    while remaining > 0:
        most = remaining + 1
        n = most.bit_length()
        low, value = (1 << n) - 1 - most, bits >> at & (1 << n) - 1
        if value & (1 << n - 1) - 1 < low:
            n, value = n - 1, value & (1 << n - 1) - 1
        elif value >> n - 1:
            value -= low
        at += n
        probabilities.append(value - 1)
        remaining -= abs(value - 1)
        while value == 1:
            more = bits >> at & 3
            at += 2
            probabilities += [0] * more
            if more < 3:
                break
    return log, probabilities, -(-at // 8)


def fse_table(log, probabilities):
    """RFC 8878, 4.1.1: (symbol, bits, base) of every state."""
    size = 1 << log
    symbols, high = [None] * size, size
    for symbol, p in enumerate(probabilities):
        if p < 0:
            high -= 1
            symbols[high] = symbol
    at = 0
    for symbol, p in enumerate(probabilities):
        for _ in range(max(p, 0)):
            symbols[at] = symbol
            while True:
                at = at + (size >> 1) + (size >> 3) + 3 & size - 1
                if at < high:
                    break
    following, table = [abs(p) for p in probabilities], []
    for symbol in symbols:
        n = log + 1 - following[symbol].bit_length()
        table.append((symbol, n, (following[symbol] << n) - size))
        following[symbol] += 1
    return table


def expand_row(coding, group, cols, kept, survivors, scales, zeros):
    if coding in VALUES:
        row = np.zeros(cols, "<u2")
        row[kept] = survivors
        return row.tobytes()
    codes = zeros[np.arange(cols) // group].copy()
    codes[kept] = survivors
    if coding == Q8_SYM:
        codes = codes.reshape(-1, 32)
    else:
        halves = codes.reshape(-1, 2, 16)
        codes = halves[:, 0] | halves[:, 1] << 4
    k = np.arange(0, cols, 32) // group
    head = [scales[k]]
    if coding == Q4_ASYM:
        product = zeros[k].astype(np.float32) * scales[k].view(np.float16).astype(np.float32)
        m = np.where(product == 0, np.float32(0), -product).astype(np.float16)
        head.append(m.view(np.uint16))
    head = np.stack(head, axis=1).astype("<u2")
    return np.concatenate([head.view(np.uint8).reshape(len(k), -1), codes], axis=1).tobytes()


def expand_blob(blob, shape, coding, group, layout):
    cols, rows = shape[0], int(np.prod(shape[1:], dtype=np.uint64))
    number, tiles = {"plain": (1, plain_tiles), "packed": (2, packed_tiles)}[layout]
    assert struct.unpack("<4sBBHIIQQ", blob[:32])[:6] == (b"BESA", number, coding, group, cols, rows), "blob header"
    rows = (row for tile in tiles(blob, Shape(coding, group, cols, rows)) for row in tile.rows())
    return b"".join(expand_row(coding, group, cols, *row) for row in rows)


def expanded_pairs(pairs):
    changes = {"general." + k.removeprefix("besa.expand."): v for k, v in pairs.items() if k.startswith("besa.expand.")}
    out = {k: changes.get(k, v) for k, v in pairs.items() if not k.startswith(RESERVED)}
    out.update({k: v for k, v in changes.items() if k not in out})
    return out


def write(path, pairs, tensors, align):
    def text(s):
        s = s.encode(errors="surrogateescape")
        return struct.pack("<Q", len(s)) + s

    head = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(pairs))]
    for key, (typ, raw, _) in pairs.items():
        head += [text(key), struct.pack("<I", typ), raw]
    offset = 0
    for name, shape, typ, data in tensors:
        head += [text(name), struct.pack("<I", len(shape)), struct.pack(f"<{len(shape)}Q", *shape), struct.pack("<IQ", typ, offset)]
        offset += len(data) + -len(data) % align
    head = b"".join(head)
    with open(path, "wb") as f:
        f.write(head + b"\0" * (-len(head) % align))
        for *_, data in tensors:
            f.write(data + b"\0" * (-len(data) % align))


def main(source, target):
    with open(source, "rb") as f:
        data = f.read()
    pairs, tensors, base, align = parse(data)
    layout = pairs["besa.format.layout"][2]
    assert pairs["besa.format.version"][2] in (1, 2) and layout in ("plain", "packed"), "unknown version or layout"
    table = {k.removeprefix("besa.tensors."): v[2] for k, v in pairs.items() if k.startswith("besa.tensors.")}
    shapes = np.split(table["shape"], np.cumsum(table["dims"])[:-1])
    ends = [t[3] for t in tensors[1:]] + [len(data) - base]
    out, k = [], 0
    for (name, shape, typ, offset), end in zip(tensors, ends):
        if not name.endswith(".besa"):
            out.append((name, shape, typ, data[base + offset : base + end]))  # with its padding, which is zero
            continue
        assert table["name"][k] + ".besa" == name, "the table does not match the tensors"
        blob = data[base + offset : base + offset + shape[0]]
        coding, shape = int(table["coding"][k]), [int(n) for n in shapes[k]]
        out.append((table["name"][k], shape, TYPE[coding], expand_blob(blob, shape, coding, int(table["group"][k]), layout)))
        k += 1
    write(target, expanded_pairs(pairs), out, align)


if __name__ == "__main__":
    main(*sys.argv[1:])
