#!/usr/bin/env python3
"""Makes the golden files of package gguf with two producers that are not it.

    python3 make_goldens.py path/to/libggml-base.so

llama.cpp's own library (through ctypes) quantises codec/input.f32, dequantises
codec/*.blocks and writes container/ggml.gguf; the PyPI package gguf writes
container/pypi.gguf and must agree with the library on every codec where both
define the result. Made with llama.cpp v0.5.0 (npm @node-llama-cpp/linux-x64
3.22.1) and gguf 0.19.0. The output is the same on every run.

codec/input.f32       rows of 256 float32, most of them nasty (see nasty_rows)
codec/T.quantized     those rows as type T, by ggml's reference quantiser
codec/T.blocks        blocks of type T: half with sane scales, half random bits
codec/T.f32           the weights of T.blocks, by ggml's dequantiser
codec/halves.json     SHA-256 of the conversions of all 2^16 halves, and of
                      every 4093rd float32 pattern
container/*.gguf      small files with all value types
container/*.json      what must be read from them
"""

import ctypes as C
import hashlib
import json
import pathlib
import sys

import gguf
import numpy as np

HERE = pathlib.Path(__file__).parent
ROW = 256
# name: (ggml number, weights per block, bytes per block, offsets of fp16 fields)
TYPES = {
    "F32": (0, 1, 4, []), "F16": (1, 1, 2, []), "BF16": (30, 1, 2, []),
    "Q4_0": (2, 32, 18, [0]), "Q4_1": (3, 32, 20, [0, 2]),
    "Q5_0": (6, 32, 22, [0]), "Q5_1": (7, 32, 24, [0, 2]), "Q8_0": (8, 32, 34, [0]),
    "Q2_K": (10, 256, 84, [80, 82]), "Q3_K": (11, 256, 110, [108]), "Q4_K": (12, 256, 144, [0, 2]),
    "Q5_K": (13, 256, 176, [0, 2]), "Q6_K": (14, 256, 210, [208]),
}
QUANTIZED = ["F16", "BF16", "Q4_0", "Q4_1", "Q8_0"]


def nasty_rows(rng):
    """Rows of 256 weights that go wrong in a careless quantiser."""
    f, n = np.float32, ROW
    gauss = lambda s=1.0: (rng.standard_normal(n) * s).astype(f)
    sign = lambda: rng.choice([-1.0, 1.0], n)
    i = np.arange(n)
    tiny = f(2.0 ** -149)
    rows = {
        "zeros": np.zeros(n, f),
        "minus zeros": np.full(n, -0.0, f),
        "both zeros": np.where(i % 3 == 0, f(-0.0), f(0.0)),
        "subnormal float32": (rng.integers(1, 1 << 23, n).astype(np.uint32) | (rng.integers(0, 2, n).astype(np.uint32) << 31)).view(f),
        "smallest subnormals": (tiny * rng.integers(-3, 4, n)).astype(f),
        "reciprocal overflows": (sign() * 1e-39 * rng.random(n)).astype(f),
        "reciprocal barely fits": (sign() * 2.4e-38 * rng.random(n)).astype(f),
        "huge": (sign() * 3e38 * rng.random(n)).astype(f),
        "range overflows": np.where(i % 2 == 0, f(3.4e38), f(-3.4e38)),
        "all equal": np.full(n, 0.7, f),
        "all equal, negative": np.full(n, -0.7, f),
        "ties of Q4_0": (((i % 32) - 16) / 2).astype(f),
        "ties of Q4_0, positive extreme": ((16 - (i % 32)) / 2).astype(f),
        "ties of Q4_1": np.minimum(15, (i % 32) / 2).astype(f),
        "ties of Q8_0": np.concatenate([[127], (np.arange(n - 1) - 127) / 2 + 0.5]).astype(f),
        "just below a tie": np.where(i % 32 == 0, f(127), np.nextafter((i % 32 + 0.5).astype(f), f(0))),
        "just above a tie": np.where(i % 32 == 0, f(-8), np.nextafter((i % 32 / 4 + 0.5).astype(f), f(9))),
        "equal extremes of both signs": np.where(i % 2 == 0, f(1.5), f(-1.5)),
        "equal extremes, negative first": np.where(i % 2 == 0, f(-1.5), f(1.5)),
        "scale overflows fp16": gauss(1e6),
        "scale at the fp16 limit": (sign() * 65519.9 * np.where(i % 64 < 32, 8, 127)).astype(f),
        "scale subnormal in fp16": gauss(1e-6),
        "scale vanishes in fp16": gauss(1e-9),
        "one outlier": np.where(i == 100, f(1e4), gauss()),
        "one outlier, negative": np.where(i == 5, f(-1e4), gauss()),
        "one weight": np.where(i == 77, f(0.3), f(0)),
        "half of it pruned": np.where(rng.random(n) < 0.5, f(0), gauss(0.02)),
        "NaN inside": np.where(i % 32 == 7, f("nan"), gauss()),
        "NaN first": np.where(i % 32 == 0, f("nan"), gauss()),
        "NaN last": np.where(i % 32 == 31, f("nan"), gauss()),
        "all NaN": np.full(n, np.nan, f),
        "infinity": np.where(i % 32 == 3, f("inf"), gauss()),
        "minus infinity": np.where(i % 32 == 3, f("-inf"), gauss()),
        "ties of fp16": ((1024 + i).astype(f) + f(0.5)) * f(2.0) ** ((i % 40) - 30).astype(f),
        "ties of subnormal fp16": ((i + 0.5) * 2.0 ** -24).astype(f),
        "fp16 limits": np.resize(np.array([65504, 65519.996, 65520, 65536, 2**-14, 2**-14 - 2**-26, 2**-24, 2**-25,
                                           np.nextafter(f(2**-25), f(1)), 6.1e-5, 1e38, -65520], f), n),
        "ties of bf16": ((0x3f800000 + (i << 16) + 0x8000).astype(np.uint32)).view(f),
        "uniform": (rng.random(n) * 2 - 1).astype(f),
        "gaussian": gauss(0.02),
        "gaussian, shifted": gauss(0.02) + f(0.1),
        "gaussian, large": gauss(300),
        "heavy-tailed": rng.standard_t(3, n).astype(f),
    }
    return list(rows), np.stack([r.astype(f) for r in rows.values()])


class Traits(C.Structure):
    _fields_ = [("type_name", C.c_char_p), ("blck_size", C.c_int64), ("interleave", C.c_int64),
                ("type_size", C.c_size_t), ("is_quantized", C.c_bool),
                ("to_float", C.CFUNCTYPE(None, C.c_void_p, C.c_void_p, C.c_int64)),
                ("from_float_ref", C.CFUNCTYPE(None, C.c_void_p, C.c_void_p, C.c_int64))]


class Ggml:
    def __init__(self, path):
        self.lib = C.CDLL(path)
        self.lib.ggml_get_type_traits.restype = C.POINTER(Traits)
        self.lib.ggml_fp32_to_fp16.restype = C.c_uint16
        self.lib.ggml_fp32_to_fp16.argtypes = [C.c_float]
        self.lib.ggml_quantize_chunk.restype = C.c_size_t
        self.lib.ggml_quantize_chunk.argtypes = [C.c_int, C.c_void_p, C.c_void_p, C.c_int64, C.c_int64, C.c_int64, C.c_void_p]

    def traits(self, name):
        number, block, size, _ = TYPES[name]
        t = self.lib.ggml_get_type_traits(number).contents
        assert (t.type_name.decode().upper(), t.blck_size, t.type_size) == (name, block, size), name
        return t

    def quantize(self, name, x):
        number, block, size, _ = TYPES[name]
        x = np.ascontiguousarray(x, np.float32)
        out = np.zeros(x.size // block * size, np.uint8)
        self.traits(name).from_float_ref(x.ctypes.data, out.ctypes.data, x.size)
        # what llama-quantize calls; must be the same function
        again = np.zeros_like(out)
        self.lib.ggml_quantize_chunk(number, x.ctypes.data, again.ctypes.data, 0, x.size // ROW, ROW, None)
        assert (out == again).all(), name
        return out

    def dequantize(self, name, blocks):
        _, block, size, _ = TYPES[name]
        if name == "F32":
            return blocks.view(np.float32)
        out = np.zeros(blocks.size // size * block, np.float32)
        self.traits(name).to_float(np.ascontiguousarray(blocks).ctypes.data, out.ctypes.data, out.size)
        return out


def random_blocks(rng, name):
    """2048 weights; in the second half even the scales are random bits."""
    _, block, size, halves = TYPES[name]
    b = rng.integers(0, 256, (2048 // block, size), np.uint8)
    sane = b[: len(b) // 2]
    for at in halves:
        sane[:, at:at + 2] = rng.normal(0, 0.01, (len(sane), 1)).astype(np.float16).view(np.uint8)
    return b.reshape(-1)


def same(a, b):
    return np.array_equal(a.view(np.uint32)[~np.isnan(a)], b.view(np.uint32)[~np.isnan(b)]) and \
        np.array_equal(np.isnan(a), np.isnan(b))


def make_codecs(ggml):
    out = HERE / "codec"
    out.mkdir(exist_ok=True)
    rng = np.random.default_rng(20241103)
    names, rows = nasty_rows(rng)
    (out / "input.f32").write_bytes(rows.tobytes())
    (out / "input.json").write_text(json.dumps(names, indent=0) + "\n")
    for name in TYPES:
        qtype = gguf.GGMLQuantizationType[name]
        blocks = random_blocks(rng, name)
        floats = ggml.dequantize(name, blocks)
        with np.errstate(all="ignore"):
            other = gguf.quants.dequantize(blocks, qtype)
        if not same(floats, other.reshape(-1)):
            print(f"{name}: gguf-py dequantises random blocks differently")
        (out / f"{name}.blocks").write_bytes(blocks.tobytes())
        if name in QUANTIZED:
            quantized = ggml.quantize(name, rows)
            (out / f"{name}.quantized").write_bytes(quantized.tobytes())
            with np.errstate(all="ignore"):
                other = gguf.quants.quantize(rows, qtype).view(np.uint8).reshape(len(rows), -1)
            differ = [n for n, a, b in zip(names, quantized.reshape(len(rows), -1), other) if not np.array_equal(a, b)]
            print(f"{name}: gguf-py quantises these rows differently: {differ}")
        if name != "F32":
            (out / f"{name}.f32").write_bytes(floats.tobytes())
    halves = np.arange(1 << 16, dtype=np.uint16)
    singles = np.arange(0, 1 << 32, 4093, dtype=np.uint64).astype(np.uint32)
    digest = lambda a: hashlib.sha256(a.tobytes()).hexdigest()
    (out / "halves.json").write_text(json.dumps({
        "f16_to_f32": digest(ggml.dequantize("F16", halves.view(np.uint8))),
        "bf16_to_f32": digest(ggml.dequantize("BF16", halves.view(np.uint8))),
        "f32_to_f16": digest(single_to_half(ggml, "F16", singles)),
        "f32_to_bf16": digest(single_to_half(ggml, "BF16", singles)),
    }, indent=1) + "\n")


def single_to_half(ggml, name, bits):
    out = np.zeros(bits.size, np.uint16)
    ggml.traits(name).from_float_ref(bits.ctypes.data, out.ctypes.data, bits.size)
    return out


# Metadata of the container files: key, GGUF type (an array: list of it), value.
METADATA = [
    ("general.architecture", "STRING", "llama"),
    ("general.name", "STRING", "gölden ✓ \U0001f999"),
    ("general.description", "STRING", ""),
    ("t.uint8", "UINT8", 255), ("t.int8", "INT8", -128),
    ("t.uint16", "UINT16", 65535), ("t.int16", "INT16", -32768),
    ("t.uint32", "UINT32", 4294967295), ("t.int32", "INT32", -2147483648),
    ("t.uint64", "UINT64", 18446744073709551615), ("t.int64", "INT64", -9223372036854775808),
    ("t.float32", "FLOAT32", -0.15625), ("t.float64", "FLOAT64", 3.141592653589793),
    ("t.true", "BOOL", True), ("t.false", "BOOL", False),
    ("a.uint8", ["UINT8"], [0, 1, 255]), ("a.int8", ["INT8"], [-128, 127]),
    ("a.uint16", ["UINT16"], [0, 65535]), ("a.int16", ["INT16"], [-32768, 32767]),
    ("a.uint32", ["UINT32"], [0, 4294967295]), ("a.int32", ["INT32"], [-2147483648, 2147483647]),
    ("a.uint64", ["UINT64"], [0, 18446744073709551615]), ("a.int64", ["INT64"], [-9223372036854775808, 7]),
    ("a.float32", ["FLOAT32"], [0.5, -2.0, 0.0]), ("a.float64", ["FLOAT64"], [0.5, -2.0]),
    ("a.bool", ["BOOL"], [True, False, True]),
    ("a.string", ["STRING"], ["", "a", "Ġthe", "\n", "漢字"]),
    ("unknown.vendor.key", "STRING", "copied as it is"),
]
# name, type, shape in ggml's order
TENSORS = [
    ("token_embd.weight", "F16", [32, 7]), ("blk.0.attn_norm.weight", "F32", [33]),
    ("blk.0.attn_q.weight", "Q4_0", [64, 5]), ("blk.0.ffn_up.weight", "Q8_0", [96, 2, 3]),
    ("blk.0.ffn_down.weight", "BF16", [3, 2, 2, 2]), ("output.weight", "Q4_1", [32, 1]),
]


def tensor_bytes(ggml, rng, kind, shape):
    x = rng.standard_normal(int(np.prod(shape))).astype(np.float32)
    if kind == "F32":
        return x.view(np.uint8)
    number, block, size, _ = TYPES[kind]
    out = np.zeros(x.size // block * size, np.uint8)
    ggml.traits(kind).from_float_ref(x.ctypes.data, out.ctypes.data, x.size)
    return out


def describe(path, data, alignment):
    def exact(v):  # JSON readers take numbers for float64
        if isinstance(v, list):
            return [exact(e) for e in v]
        return str(v) if isinstance(v, int) and not isinstance(v, bool) else v
    doc = {"alignment": alignment,
           "metadata": [{"key": k, "type": t, "value": exact(v)} for k, t, v in METADATA],
           "tensors": [{"name": n, "type": t, "shape": s, "sha256": hashlib.sha256(d.tobytes()).hexdigest()}
                       for (n, t, s), d in zip(TENSORS, data)]}
    path.write_text(json.dumps(doc, ensure_ascii=False, indent=1) + "\n")


def write_pypi(path, data, alignment):
    """With an alignment of its own, which llama.cpp's writer cannot do."""
    w = gguf.GGUFWriter(path, "llama")  # writes general.architecture itself
    w.add_custom_alignment(alignment)
    for key, kind, value in METADATA[1:]:
        if isinstance(kind, list):
            w.add_key_value(key, value, gguf.GGUFValueType.ARRAY, gguf.GGUFValueType[kind[0]])
        else:
            w.add_key_value(key, value, gguf.GGUFValueType[kind])
    for (name, kind, shape), d in zip(TENSORS, data):
        _, block, size, _ = TYPES[kind]
        row = shape[0] // block * size
        w.add_tensor(name, d.reshape(shape[:0:-1] + [row]), raw_dtype=gguf.GGMLQuantizationType[kind])
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def write_ggml(ggml, path, data):
    lib = ggml.lib
    class Params(C.Structure):
        _fields_ = [("mem_size", C.c_size_t), ("mem_buffer", C.c_void_p), ("no_alloc", C.c_bool)]
    for f, res in [("ggml_init", C.c_void_p), ("ggml_new_tensor", C.c_void_p), ("ggml_get_data", C.c_void_p),
                   ("gguf_init_empty", C.c_void_p), ("gguf_write_to_file", C.c_bool)]:
        getattr(lib, f).restype = res
    lib.ggml_init.argtypes = [Params]
    lib.gguf_write_to_file.argtypes = [C.c_void_p, C.c_char_p, C.c_bool]
    ctx, g = C.c_void_p(lib.ggml_init(Params(1 << 20, None, False))), C.c_void_p(lib.gguf_init_empty())
    short = {"STRING": "str", "BOOL": "bool"}
    def ctype(kind):
        if kind == "BOOL":
            return C.c_bool
        if kind.startswith("FLOAT"):
            return C.c_float if kind == "FLOAT32" else C.c_double
        return getattr(C, "c_" + kind.lower())
    def suffix(kind):
        return short.get(kind) or kind.replace("UINT", "u").replace("INT", "i").replace("FLOAT", "f")
    for key, kind, value in METADATA:
        k = C.c_char_p(key.encode())
        if not isinstance(kind, list):
            set_value = getattr(lib, "gguf_set_val_" + suffix(kind))
            set_value(g, k, C.c_char_p(value.encode()) if kind == "STRING" else ctype(kind)(value))
        elif kind[0] == "STRING":
            lib.gguf_set_arr_str(g, k, (C.c_char_p * len(value))(*[s.encode() for s in value]), C.c_size_t(len(value)))
        else:
            array = (ctype(kind[0]) * len(value))(*value)
            lib.gguf_set_arr_data(g, k, C.c_int(gguf.GGUFValueType[kind[0]]), array, C.c_size_t(len(value)))
    for (name, kind, shape), d in zip(TENSORS, data):
        t = C.c_void_p(lib.ggml_new_tensor(ctx, C.c_int(TYPES[kind][0]), C.c_int(len(shape)), (C.c_int64 * len(shape))(*shape)))
        lib.ggml_set_name(t, C.c_char_p(name.encode()))
        C.memmove(lib.ggml_get_data(t), d.tobytes(), d.size)
        lib.gguf_add_tensor(g, t)
    assert lib.gguf_write_to_file(g, str(path).encode(), False)


def main():
    ggml = Ggml(sys.argv[1])
    make_codecs(ggml)
    out = HERE / "container"
    out.mkdir(exist_ok=True)
    rng = np.random.default_rng(7)
    data = [tensor_bytes(ggml, rng, kind, shape) for _, kind, shape in TENSORS]
    write_pypi(out / "pypi.gguf", data, 128)
    describe(out / "pypi.json", data, 128)
    write_ggml(ggml, out / "ggml.gguf", data)
    describe(out / "ggml.json", data, 32)


if __name__ == "__main__":
    main()
