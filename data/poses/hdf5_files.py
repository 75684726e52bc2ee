"""Poses in HDF5 files of SLEAP and DeepLabCut; needs the package h5py."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from data.poses.recording import Facts, PoseFileError, Recording
from data.poses.tables import ONE_ANIMAL, deeplabcut_recording
from torchlight.system.pickles import PlainUnpickler


def read_hdf5(path: Path) -> Recording:
    """A SLEAP analysis file or a DeepLabCut table.

    Raises:
        PoseFileError: h5py is missing, or the file is damaged or in another format.
    """
    try:
        import h5py
    except ImportError:
        raise PoseFileError(f"{path}: HDF5 files need the package h5py; pip install h5py") from None
    try:
        with h5py.File(path, "r") as file:
            if "tracks" in file and "node_names" in file:
                return read_sleap_analysis(file)
            tables = [name for name in file if isinstance(file[name], h5py.Group) and "table" in file[name]]
            if tables:
                return read_deeplabcut_table(path, file[tables[0]]["table"])
            is_fixed = any("pandas_type" in group.attrs for group in file.values())
            project = {"instances", "frames", "metadata"} <= set(file)
            names = ", ".join(list(file)[:6])
    except PoseFileError:
        raise
    except Exception as error:  # h5py raises any exception for a damaged file
        raise PoseFileError(f"{path}: not a readable HDF5 file ({type(error).__name__}: {error})") from error
    if project:
        raise PoseFileError(
            f"{path}: expected a SLEAP analysis file, got a SLEAP project; export the analysis HDF5 from SLEAP"
        )
    if is_fixed:
        raise PoseFileError(
            f"{path}: expected a DeepLabCut table, got the fixed format of pandas; convert it with the packages pandas "
            "and tables: pandas.read_hdf(path).to_hdf(out, key='df_with_missing', format='table')"
        )
    raise PoseFileError(f"{path}: expected a SLEAP analysis file or a DeepLabCut table, got the groups {names}")


def read_sleap_analysis(file: Any) -> Recording:
    """`tracks` (tracks, 2, nodes, frames) with NaN where a joint was not seen."""
    tracks = np.asarray(file["tracks"], np.float32).transpose(0, 3, 2, 1)  # (M, T, V, 2)
    joints = tuple(_text(name) for name in file["node_names"][()])
    names = tuple(_text(name) for name in file["track_names"][()]) if "track_names" in file else ()
    score = None
    if "point_scores" in file and file["point_scores"].shape == (tracks.shape[0], tracks.shape[2], tracks.shape[1]):
        score = np.nan_to_num(np.asarray(file["point_scores"], np.float32)).transpose(0, 2, 1)
    if len(names) != len(tracks):
        names = tuple(str(m + 1) for m in range(len(tracks)))
    return Recording(tracks, score, names, np.arange(tracks.shape[1]), Facts("SLEAP", joints=joints))


def _text(name: Any) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def read_deeplabcut_table(path: Path, table: Any) -> Recording:
    """A pandas table with the fields `index` and `values_block_0`; an attribute contains the names of the columns as a
    pickle of tuples."""
    kind = table.attrs["values_block_0_kind"]
    content = kind.encode("latin1") if isinstance(kind, str) else bytes(kind)
    try:
        columns = [tuple(map(str, column)) for column in PlainUnpickler(io.BytesIO(content)).load()]
    except (pickle.UnpicklingError, EOFError, IndexError, KeyError, TypeError, ValueError) as error:
        raise PoseFileError(f"{path}: expected the names of the columns, got {type(error).__name__}") from error
    if not all(len(column) in (3, 4) for column in columns) or "likelihood" not in {column[-1] for column in columns}:
        raise PoseFileError(f"{path}: expected predictions of DeepLabCut (scorer, bodyparts, coords with likelihood)")
    values, index = np.asarray(table["values_block_0"], float), np.asarray(table["index"])
    place = {(column[1] if len(column) == 4 else ONE_ANIMAL, *column[-2:]): i for i, column in enumerate(columns)}
    return deeplabcut_recording(values, place, index)
