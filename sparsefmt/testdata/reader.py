"""Expand a sparse GGUF to an ordinary one: python3 reader.py sparse.gguf out.gguf

An independent reader of the format in ../SPEC.md, written from that document; needs only numpy.
It shows what the format means; it checks little and compares no checksums.
"""
import struct
import sys

import numpy as np

SCALARS = {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "<u1", 10: "<u8", 11: "<i8", 12: "<f8"}
STRING, ARRAY = 8, 9
RESERVED = ("besa.format.", "besa.tensors.", "besa.dense.", "besa.expand.", "besa.header.")
Q4_SYM, Q4_ASYM, F16, BF16 = 1, 2, 3, 4
TYPE = {Q4_SYM: 2, Q4_ASYM: 3, F16: 1, BF16: 30}


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


def tile_rows(blob, coding, group, cols, rows, start, halves):
    """Yields (kept, survivors, scales, zeros) of each row of the tile that begins at start."""
    words, groups = -(-cols // 64), -(-cols // group) if group else 0
    quant = coding in (Q4_SYM, Q4_ASYM)
    at = start + 8 * words * rows
    masks = np.unpackbits(np.frombuffer(blob[start:at], np.uint8), bitorder="little").reshape(rows, 64 * words)[:, :cols].astype(bool)
    scales = np.frombuffer(blob[at : at + 2 * groups * rows], "<u2").reshape(rows, groups)
    at += 2 * groups * rows
    zeros = np.full((rows, groups), 8, np.uint8)
    if coding == Q4_ASYM:
        size = (groups * rows + 1) // 2
        zeros = nibbles(blob[at : at + size])[: groups * rows].reshape(rows, groups)
        at += size
    stream = np.frombuffer(blob[at:], np.uint8)
    place, seen = [0, 0], [0, 0]  # by plane: survivors and rows so far
    for r in range(rows):
        plane = halves >> r & 1
        slot = 2 * seen[plane] + plane if quant else r
        seen[plane] += 1
        n, p = int(masks[slot].sum()), place[plane]
        place[plane] += n
        if quant:
            survivors = stream[p : p + n] >> (4 * plane) & 15
        else:
            survivors = stream[2 * p : 2 * (p + n)].view("<u2")
        yield masks[slot], survivors, scales[slot], zeros[slot]


def expand_row(coding, group, cols, kept, survivors, scales, zeros):
    if coding in (F16, BF16):
        row = np.zeros(cols, "<u2")
        row[kept] = survivors
        return row.tobytes()
    k = np.arange(cols) // group
    codes = zeros[k].copy()
    codes[kept] = survivors
    blocks = codes.reshape(-1, 2, 16)
    packed = blocks[:, 0] | blocks[:, 1] << 4
    k = np.arange(0, cols, 32) // group
    head = [scales[k]]
    if coding == Q4_ASYM:
        product = zeros[k].astype(np.float32) * scales[k].view(np.float16).astype(np.float32)
        m = np.where(product == 0, np.float32(0), -product).astype(np.float16)
        head.append(m.view(np.uint16))
    head = np.stack(head, axis=1).astype("<u2")
    return np.concatenate([head.view(np.uint8).reshape(len(k), -1), packed], axis=1).tobytes()


def expand_blob(blob, shape, coding, group):
    cols, rows = shape[0], int(np.prod(shape[1:], dtype=np.uint64))
    assert struct.unpack("<4sBBHIIQQ", blob[:32])[:6] == (b"BESA", 1, coding, group, cols, rows), "blob header"
    tiles = -(-rows // 16)
    offsets = np.frombuffer(blob[32 : 32 + 4 * tiles], "<u4")
    halves = np.zeros(tiles, "<u2")
    if coding in (Q4_SYM, Q4_ASYM):
        halves = np.frombuffer(blob[36 + 4 * tiles : 36 + 6 * tiles], "<u2")
    out = []
    for t in range(tiles):
        n = min(16, rows - 16 * t)
        for row in tile_rows(blob, coding, group, cols, n, 8 * int(offsets[t]), int(halves[t])):
            out.append(expand_row(coding, group, cols, *row))
    return b"".join(out)


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
    assert pairs["besa.format.version"][2] == 1 and pairs["besa.format.layout"][2] == "plain", "unknown version or layout"
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
        out.append((table["name"][k], shape, TYPE[coding], expand_blob(blob, shape, coding, int(table["group"][k]))))
        k += 1
    write(target, expanded_pairs(pairs), out, align)


if __name__ == "__main__":
    main(*sys.argv[1:])
