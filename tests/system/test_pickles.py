"""Pickles of plain data are read as they were written; everything else is refused before any of its code runs."""

import collections
import io
import pickle
import struct
import tracemalloc

import numpy as np
import pytest

from torchlight.system.pickles import read_pickle

PLAIN = {
    "floats": np.arange(6, dtype=np.float16).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big endian": np.arange(3, dtype=">i4"),
    "text": np.array(["ab", "c"]),
    "bytes": np.array([b"ab", b"c"]),
    "empty": np.zeros((0, 3)),
    "scalar array": np.array(5.0),
    "scalars": [np.float32(3), np.int64(4), np.bool_(True), np.str_("x")],
    "python": (1, 2.5, None, True, b"", b"ab", "wave", [], {}, {1, 2}, frozenset({3})),
}


def write(folder, content: bytes):
    path = folder / "file.pkl"
    path.write_bytes(content)
    return path


def same(a, b) -> bool:
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_is_read_as_it_was_written(tmp_path, protocol):
    found = read_pickle(write(tmp_path, pickle.dumps(collections.OrderedDict(PLAIN), protocol)))
    assert found.keys() == PLAIN.keys()
    for key, value in PLAIN.items():
        assert same(value, found[key]), key


def test_an_array_that_two_containers_share_is_read_once(tmp_path):
    array = np.arange(3)
    found = read_pickle(write(tmp_path, pickle.dumps({"a": [array], "b": (array,)})))
    assert found["a"][0] is found["b"][0]


FORGED = (
    b"cnumpy.core.numeric\n_frombuffer\n(B\x08\x00\x00\x00AAAAAAAA"
    b"cnumpy\ndtype\n(VO\nI0\nI1\ntR(I3\nV|\nNNNI8\nI8\nI0\ntb(I1\ntVC\ntR."
)
FLOAT = b"cnumpy\ndtype\n(Vf8\nI0\nI1\ntR(I3\nV<\nNNNI-1\nI-1\nI0\ntb"
REFUSED = {
    "an object array made of bytes": (FORGED, "dtype 'O'"),
    "a dtype with a flag for objects": (b"cnumpy\ndtype\n(Vf8\nI0\nI1\ntR(I3\nV|\n(I1\ntNNI8\nI8\nI63\ntb.", "fields"),
    "a function of the system": (b"cos\nsystem\n(S'true'\ntR.", "os.system"),
    "an attribute of a stand-in": (b"cnumpy\nndarray\n}Vx\nI1\nsb.", "state of an array"),
    "an array called directly": (b"cnumpy\nndarray\n((L10000000000000L\nttR.", "called directly"),
    "an array of another size": (
        b"cnumpy.core.numeric\n_frombuffer\n(B\x08\x00\x00\x00AAAAAAAA" + FLOAT + b"(I2\ntVC\ntR.",
        "16 bytes",
    ),
    "a negative shape": (
        b"cnumpy.core.numeric\n_frombuffer\n(B\x08\x00\x00\x00AAAAAAAA" + FLOAT + b"(I-1\ntVC\ntR.",
        "shape",
    ),
    "a codec that is not known": (b"c_codecs\nencode\n(Va\nVzip\ntR.", "latin1"),
    "an ordered dict of numbers": (b"ccollections\nOrderedDict\n(I1\nI2\nI3\ntR.", "not a pickle of plain data"),
    "a key that cannot be hashed": (b"}(]I1\nu.", "not a pickle of plain data"),
    "a memo entry of a huge number": (b"\x80\x02K\x01r\xff\xff\xff\x7fh\x05.", "not a pickle of plain data"),
    "text of a huge length": (b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"a.", "not a pickle of plain data"),
    "a frame of a huge length": (b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"K\x01", "not a pickle of plain data"),
    "a list in itself": (b"\x80\x02]q\x00h\x00a.", "contains itself"),
    "deeply nested lists": (b"]" * 1000 + b"a" * 999 + b".", "nested"),
    "a type instead of a value": (b"cnumpy\nndarray\n.", "a type"),
    "a type as a key": (pickle.dumps({np.dtype("f4"): 1}), "a type"),
    "a type in a set": (pickle.dumps({np.dtype("f4")}), "a type"),
    "nothing": (b"", "not a pickle of plain data"),
    "half a file": (pickle.dumps(PLAIN)[:200], "not a pickle of plain data"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_or_damaged_pickle_is_refused_with_its_name(tmp_path, name):
    content, words = REFUSED[name]
    with pytest.raises(ValueError, match="file.pkl: .*nothing in it was run") as error:
        read_pickle(write(tmp_path, content))
    assert words in str(error.value)


def test_shared_lists_that_expand_without_bound_are_refused(tmp_path):
    level = [0] * 10
    for _ in range(12):
        level = [level] * 10
    with pytest.raises(ValueError, match="more than"):
        read_pickle(write(tmp_path, pickle.dumps(level)))


def test_an_array_of_objects_is_refused(tmp_path):
    array = np.empty(1, object)
    array[0] = io
    content = pickle.dumps({"a": np.array([{}], object)})
    with pytest.raises(ValueError, match="expected a numeric or string array, got dtype 'O8'"):
        read_pickle(write(tmp_path, content))


@pytest.mark.parametrize("length", [2**34, 2**62, 2**63 + 5])
def test_a_byte_array_allocates_no_more_than_the_file_holds(tmp_path, length):
    tracemalloc.start()
    with pytest.raises(ValueError, match="not a pickle of plain data"):
        read_pickle(write(tmp_path, b"\x80\x05\x96" + struct.pack("<Q", length) + b"abc."))
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


@pytest.mark.parametrize("size", [10, 200_000])  # inside a frame of the pickle, and outside
def test_a_byte_array_is_read_as_it_was_written(tmp_path, size):
    assert read_pickle(write(tmp_path, pickle.dumps({"a": bytearray(b"x" * size)}, 5))) == {"a": b"x" * size}
