"""Array files are read if their headers agree with the size of the file and their types are plain."""

import io
import zipfile

import numpy as np
import pytest

from torchlight.system.arrays import open_archive, open_array, read_arrays

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def npy(array: np.ndarray, **changed) -> bytes:
    """An .npy file whose header entries may be wrong."""
    header = {
        "descr": np.lib.format.dtype_to_descr(array.dtype),
        "fortran_order": False,
        "shape": array.shape,
    } | changed
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + array.tobytes()


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_is_mapped_and_not_read(tmp_path, order):
    np.save(tmp_path / "x.npy", np.asarray(X, order=order))
    found = open_array(tmp_path / "x.npy")
    assert isinstance(found, np.memmap) and (found == X).all()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_gives_its_arrays_whether_compressed_or_not(tmp_path, save):
    save(tmp_path / "x.npz", x=X, name=np.array(["a", "bc"]), none=np.zeros((0, 4)))
    with open_archive(tmp_path / "x.npz") as archive:
        assert archive.names == ["x", "name", "none"] and archive.header("x").shape == X.shape
        assert (archive.array("x") == X).all() and archive.array("none").shape == (0, 4)
        assert isinstance(archive.array("x"), np.memmap) == (save is np.savez)
        assert archive.array("name", "U").tolist() == ["a", "bc"]
        with pytest.raises(ValueError, match="x.npz: name: expected .*floats, got dtype <U2"):
            archive.array("name")
        with pytest.raises(ValueError, match="expected the array y, got x, name, none"):
            archive.array("y")
    assert read_arrays(tmp_path / "x.npz")["name"].tolist() == ["a", "bc"]


REFUSED = {
    "objects": npy(np.zeros(8, np.uint8), descr="|O"),
    "a structure": npy(np.zeros(8, np.uint8), descr=[("a", "<f4")]),
    "long doubles": npy(np.zeros(2, np.longdouble)),
    "complex numbers": npy(np.zeros(2, complex)),
    "a negative shape": npy(X, shape=(-2, 3, 4)),
    "a huge shape": npy(X, shape=(2**40, 3, 4)),
    "a shape of other than numbers": npy(X, shape=(2.0, 3, 4)),
    "too short a shape": npy(X, shape=(1, 3, 4)),
    "half the data": npy(X)[:-1],
    "no data": npy(X)[:80],
    "nothing": b"",
    "text": b"joints of a clip",
    "an archive": b"PK\x03\x04" + b"\0" * 60,
    "another version": npy(X).replace(b"NUMPY\x01", b"NUMPY\x07"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_damaged_array_file_is_refused_with_its_name(tmp_path, name):
    (tmp_path / "x.npy").write_bytes(REFUSED[name])
    with pytest.raises(ValueError, match="x.npy: "):
        open_array(tmp_path / "x.npy")


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_member_is_refused_with_the_name_of_file_and_array(tmp_path, name, kind):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", kind) as archive:
        archive.writestr("x.npy", REFUSED[name])
    with pytest.raises(ValueError, match="x.npz: x: "), open_archive(tmp_path / "x.npz") as archive:
        archive.array("x")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_cut_at_any_place_is_refused_or_gives_the_same_array(tmp_path, save):
    save(tmp_path / "whole.npz", x=X)
    content = (tmp_path / "whole.npz").read_bytes()
    for place in range(0, len(content), 7):
        for damaged in (content[:place], content[:place] + b"\xff\xff" + content[place + 2 :]):
            (tmp_path / "x.npz").write_bytes(damaged)
            try:
                with open_archive(tmp_path / "x.npz") as archive:
                    found = archive.array("x")
            except ValueError as error:
                assert "x.npz" in str(error)
            else:
                assert found.shape == X.shape
