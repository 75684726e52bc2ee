"""Fusion, its searched weights and its intervals, each against a few lines of NumPy; and the command line of
ensemble.py."""

import itertools
import json
import logging
import math
import pickle
import resource
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.torchlight.small_run import CLASSES, LABEL, NAMES, make_scores, write_run, write_store
from torchlight.fusion import fuse, score_files
from torchlight.fusion.cli import keep_known, main
from torchlight.fusion.intervals import bootstrap_interval, compare, sign_flip
from torchlight.system.paths import DATA_ROOT
from torchlight.training.scores import SCORE_FILE, read_scores, write_scores

STREAMS = np.stack([make_scores(seed, strength) for seed, strength in ((1, 1.6), (2, 1.4), (3, 1.2), (4, 0.8))])


def top1(scores):
    return 100 * (scores.argmax(1) == LABEL).mean()


@pytest.mark.parametrize(
    ("preset", "modalities", "weights"),
    [
        ("ctrgcn", ["joint", "bone", "joint_motion", "bone_motion"], [0.6, 0.6, 0.4, 0.4]),
        ("ctrgcn", ["bone_motion", "joint"], [0.4, 0.6]),
        ("ctrgcn", [None, None, None], [0.6, 0.6, 0.4]),
        ("pyskl", ["joint", "bone", "joint_motion", "bone_motion", "joint"], [2, 2, 1, 1, 2]),
        ("protogcn", ["kbone", "bone_motion", "kbone_motion", "joint"], [2, 1, 1, 2]),
        ("protogcn", [None] * 6, [2, 2, 1, 1, 2, 1]),
        ("agcn", ["joint", "bone"], [1, 1]),
        ("tsgcnext", ["joint", "bone"], [1, 0.9]),
        ("tsgcnext", [None] * 4, [0.95, 0, 0, 1]),
    ],
)
def test_a_preset_gives_the_published_weights(preset, modalities, weights):
    assert fuse.preset_weights(preset, modalities) == weights


@pytest.mark.parametrize(
    ("preset", "modalities"),
    [("agcn", ["joint", "bone_motion"]), ("tsgcnext", [None] * 3), ("ctrgcn", ["joint", None]), ("pyskl", ["kbone"])],
)
def test_a_preset_without_a_weight_for_a_stream_is_refused(preset, modalities):
    with pytest.raises(ValueError, match=f"preset {preset}"):
        fuse.preset_weights(preset, modalities)


def test_a_preset_without_a_weight_for_any_stream_is_refused():
    found = score_files.name_score_files([Path("net/kbone/epoch1_test_score.pkl")])
    with pytest.raises(ValueError, match="preset agcn: expected streams of joint, bone, got kbone"):
        keep_known("agcn", found)


def test_the_error_of_a_preset_names_one_with_weights_for_the_streams():
    with pytest.raises(ValueError, match=r"got limb \(stream 2\); give --preset posec3d, or --alpha"):
        fuse.preset_weights("ctrgcn", ["joint", "limb"])
    with pytest.raises(ValueError, match="got limb .* leave them out or give --alpha"):
        fuse.preset_weights("ctrgcn", ["bone", "limb"])


def test_fusion_is_the_weighted_sum():
    weights = [0.6, 0.6, 0.4, 0.4]
    expected = sum(w * s for w, s in zip(weights, STREAMS, strict=True))
    assert np.allclose(fuse.fuse(STREAMS, weights), expected, atol=1e-12)


def test_softmax_space_adds_probabilities_and_differs_from_logits():
    p = np.exp(STREAMS * 30) / np.exp(STREAMS * 30).sum(2, keepdims=True)
    assert np.allclose(fuse.to_space(STREAMS * 30, "softmax"), p, atol=1e-12)
    assert np.array_equal(fuse.to_space(STREAMS, "logits"), STREAMS)
    assert (fuse.fuse(p, [1] * 4).argmax(1) != fuse.fuse(STREAMS, [1] * 4).argmax(1)).any()


def test_unit_space_divides_the_scores_of_each_clip_by_their_length():
    found = fuse.to_space(STREAMS * np.arange(1, 5)[:, None, None], "unit")
    assert np.allclose(found, STREAMS / np.sqrt((STREAMS**2).sum(2, keepdims=True)), atol=1e-12)
    assert np.array_equal(fuse.to_space(np.zeros((1, 2, 3)), "unit"), np.zeros((1, 2, 3)))
    assert fuse.PRESETS["hdgcn"].space == "unit" and fuse.preset_weights("hdgcn", ["joint", "bone"] * 3) == [1.0] * 6


def test_scores_that_are_probabilities_are_not_converted_again():
    p = fuse.softmax(STREAMS)
    assert fuse.are_probabilities(np.stack([STREAMS[0], p[0]])).tolist() == [False, True]
    assert np.array_equal(fuse.to_space(p, "softmax"), p)


@pytest.mark.parametrize("S", [1, 2, 3, 4, 6, 8])
def test_the_weight_grid_sums_to_one_and_begins_with_the_most_even_weights(S):
    grid = fuse.weight_grid(S)
    assert grid.shape[1] == S and S <= len(grid) <= 301
    assert np.allclose(grid.sum(1), 1) and (grid >= 0).all()
    assert len(np.unique(grid.round(9), axis=0)) == len(grid)
    assert np.allclose(grid[0], 1 / S) and (np.diff(((grid - 1 / S) ** 2).sum(1)) > -1e-9).all()


def test_cross_fitted_weights_are_measured_on_the_half_that_did_not_choose_them():
    found = fuse.search_weights(STREAMS, LABEL, splits=3, seed=5)
    grid, random, expected = fuse.weight_grid(4), np.random.default_rng(5), []
    right = np.stack([np.einsum("s,snc->nc", w, STREAMS).argmax(1) == LABEL for w in grid])
    for _ in range(3):
        order = random.permutation(60)
        a, b = order[:30], order[30:]
        chosen_by_a, chosen_by_b = right[:, a].mean(1).argmax(), right[:, b].mean(1).argmax()
        expected.append(100 * (right[chosen_by_a][b].sum() + right[chosen_by_b][a].sum()) / 60)
    assert np.allclose(found.cross_fitted, expected)
    assert (
        found.fitted
        == pytest.approx(top1(fuse.fuse(STREAMS, found.weights)))
        == pytest.approx(100 * right.mean(1).max())
    )


def test_weights_fitted_to_noise_are_better_only_on_their_own_clips():
    noise = np.random.default_rng(0).normal(size=(4, 60, 7))
    found = fuse.search_weights(noise, LABEL, splits=20)
    assert found.fitted > found.cross_fitted.mean() + 4


def test_the_interval_is_that_of_resampled_clips():
    correct = np.arange(400) % 20 != 0
    random = np.random.default_rng(1)
    means = [100 * correct[random.integers(0, 400, 400)].mean() for _ in range(4000)]
    assert bootstrap_interval(correct) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.35)
    assert bootstrap_interval(correct, seed=3) == bootstrap_interval(correct, seed=3)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (5, 0), (3, 3), (19, 13), (1, 9), (700, 640)])
def test_the_sign_flip_test_of_single_clips_is_mcnemars_exact_test(only_a, only_b):
    n, low = only_a + only_b, min(only_a, only_b)
    expected = min(1.0, sum(math.comb(n, i) for i in range(low + 1)) * 2 / 2 ** min(n, 1000) / 2 ** max(n - 1000, 0))
    differences = np.repeat([1, -1, 0], [only_a, only_b, 7])
    assert sign_flip(differences) == pytest.approx(expected, rel=1e-9)
    assert sign_flip(-differences) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_the_sign_flip_test_counts_all_signs_of_the_groups(seed):
    differences = np.random.default_rng(seed).integers(-3, 5, 9)
    sums = [abs(differences @ signs) for signs in itertools.product([1, -1], repeat=9)]
    assert sign_flip(differences) == pytest.approx(np.mean(np.array(sums) >= abs(differences.sum())), rel=1e-9)


def test_a_comparison_counts_the_clips_that_only_one_run_gets_right():
    a, b = STREAMS[0].argmax(1) == LABEL, STREAMS[3].argmax(1) == LABEL
    result = compare(a, b)
    assert (result.only_a, result.only_b) == (sum(a & ~b), sum(b & ~a))
    assert result.difference == pytest.approx(100 * (a.mean() - b.mean()))
    random = np.random.default_rng(2)
    draws = [100 * (a[i].mean() - b[i].mean()) for i in random.integers(0, 60, (4000, 60))]
    assert result.interval == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=2.5)


# The command line


@pytest.fixture
def runs(tmp_path):
    """work_dir with two models, one of two streams."""
    store = write_store(tmp_path / "clips")
    for i, modality in enumerate(("joint", "bone")):
        folder = write_run(tmp_path / "work_dir" / "tiny" / "net" / modality, store, modality)
        write_scores(folder / "epoch1_test_score.pkl", NAMES, STREAMS[i])
    return tmp_path / "work_dir"


@pytest.fixture(autouse=True)
def fresh_terminal(monkeypatch):
    """The log writes to the terminal of this test, not to that of the first one."""
    monkeypatch.setattr(logging.getLogger("torchlight"), "handlers", [])
    monkeypatch.setattr(logging.getLogger("torchlight"), "propagate", True)


def run(capsys, *arguments):
    """Exit code, stdout, stderr."""
    code = main([str(a) for a in arguments])
    return code, *capsys.readouterr()


def test_the_dataset_alone_selects_the_only_tested_model(runs, tmp_path, capsys):
    saved, table = tmp_path / "fused.pkl", tmp_path / "table.json"
    code, out, err = run(
        capsys, "--datasets", "tiny", "--work_dir", runs, "--save", saved, "--json", table, "--search", "true"
    )
    assert (code, err) == (0, "")
    fused = 0.6 * STREAMS[0].astype(np.float32) + 0.6 * STREAMS[1].astype(np.float32)
    content = json.loads(table.read_text())
    assert content["fusion"]["top1"] == pytest.approx(top1(fused))
    assert f"{top1(fused):.2f}" in out and "preset ctrgcn (the default)" in out and "optimistic, not a result" in out
    assert [row["weight"] for row in content["streams"]] == [0.6, 0.6]
    assert np.allclose(np.stack(list(read_scores(saved).values())), fused, atol=1e-5)


def test_directories_files_and_a_single_alpha_name_the_same_fusion(runs, tmp_path, capsys):
    joint, bone = (runs / "tiny" / "net" / m for m in ("joint", "bone"))
    results = []
    for arguments in (
        ("--joint-dir", joint, "--bone_dir", bone, "--alpha", "0.5"),
        ("--scores", joint, bone / "epoch1_test_score.pkl", "--alpha", "1", "0.5"),
        ("--dataset", "tiny", "--work-dir", runs, "--alpha", "2", "1"),
    ):
        assert main([str(a) for a in (*arguments, "--json", tmp_path / "t.json", "--overwrite")]) == 0
        results.append(json.loads((tmp_path / "t.json").read_text())["fusion"]["top1"])
    assert results == [pytest.approx(top1(STREAMS[0] + 0.5 * STREAMS[1]))] * 3


def test_averaged_weights_have_their_own_score_file(runs, capsys):
    for i, modality in enumerate(("joint", "bone")):
        write_scores(runs / "tiny" / "net" / modality / "epoch1_test_ema_score.pkl", NAMES, STREAMS[i + 2])
    code, out, _ = run(capsys, "--dataset", "tiny", "--work-dir", runs, "--ema", "true")
    assert code == 0 and f"{top1(STREAMS[2]):.2f}" in out and f"{top1(STREAMS[3]):.2f}" in out


def test_two_runs_are_compared_clip_by_clip(runs, capsys):
    code, out, _ = run(capsys, "--compare", runs / "tiny" / "net" / "joint", runs / "tiny" / "net" / "bone")
    a, b = (s.argmax(1) == LABEL for s in STREAMS[:2])
    assert code == 0 and f"only joint is correct: {sum(a & ~b)} clips; only bone is correct: {sum(b & ~a)} clips" in out
    expected = sign_flip(a.astype(int) - b.astype(int))
    assert f"McNemar's exact test, which treats clips as independent: p = {expected:.4g}" in out
    assert "clips, treated as independent because their names do not identify performances" in out
    assert "sign-flip" not in out
    same = (STREAMS[0].argmax(1) == STREAMS[1].argmax(1)).sum()
    assert f"same prediction: {same} of 60 clips ({100 * same / 60:.2f} %)" in out
    table = out[out.index("classes with the largest differences between joint and bone") :].splitlines()[2:]
    difference = np.bincount(LABEL, a, 7) - np.bincount(LABEL, b, 7)
    assert len(table) == np.count_nonzero(difference)
    first = CLASSES.index(table[0][: table[0].index("  ")].strip())
    assert abs(difference[first]) == abs(difference).max()
    recall = [100 * correct[first == LABEL].mean() for correct in (a, b)]
    assert table[0].split()[-3:] == [str(sum(first == LABEL)), *(f"{x:.2f}" for x in recall)]


def test_all_mistakes_in_the_files_are_reported_together_and_nothing_is_written(runs, tmp_path, capsys):
    joint, bone = (runs / "tiny" / "net" / m / "epoch1_test_score.pkl" for m in ("joint", "bone"))
    write_scores(joint, NAMES[:-1], STREAMS[0][:-1])
    bone.write_bytes(
        pickle.dumps({str(name): row[:5] for name, row in zip([*NAMES[:-1], "renamed"], STREAMS[1], strict=True)})
    )
    code, _, err = run(
        capsys, "--dataset", "tiny", "--work-dir", runs, "--save", tmp_path / "f.pkl", "--json", tmp_path / "f.json"
    )
    assert code == 2 and all(line.startswith("error: ") for line in err.splitlines())
    assert f"{joint}: expected exactly the 60 samples of the test part, got 1 missing (first: 'clip_059')" in err
    assert f"{bone}: expected scores of 7 classes, got 5" in err
    assert "1 missing (first: 'clip_059') and 1 not in the test part (first: 'renamed')" in err
    assert not (tmp_path / "f.pkl").exists() and not (tmp_path / "f.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "streams: expected --dataset, --scores or folders"),
        (["--datasett", "tiny"], "unrecognized arguments: --datasett"),
        (["--dataset", "tiny", "--alpha", "1", "2", "3"], "expected 2 weights, one per stream (joint, bone), got 3"),
        (["--dataset", "tiny", "--alpha", "0", "0"], "not all 0"),
        (["--dataset", "tiny", "--alpha", "1", "nan"], "expected finite weights of 0 or more"),
        (["--dataset", "tiny", "--alpha", "2", "-1"], "expected finite weights of 0 or more"),
        (
            ["--dataset", "tiny", "--alpha", "1", "1", "--preset", "agcn"],
            "expected either --alpha or --preset, got both",
        ),
        (["--dataset", "tiny", "--model", "other"], "there are scores of net"),
        (["--dataset", "NW-UCLX"], "did you mean NW-UCLA"),
        (["--dataset", "NW-UCLA"], "main.py --config config/NW-UCLA/MODEL.yaml --modality MODALITY --phase test"),
        (["--dataset", "zoo", "--model", "x"], "python main.py --phase test --save-score true --weights zoo:x_j, ..."),
        (["--scores", "a.pkl", "b.pkl"], "give --dataset, a folder below config/"),
        (
            ["--scores", "a.pkl", "--joint-dir", "b"],
            "streams: expected one of --scores, --<modality>-dir, --compare, got",
        ),
        (["--compare", "a.pkl", "b.pkl", "--alpha", "1"], "alpha: has no effect with --compare"),
        (["--scores", "a.pkl", "--ema", "maybe"], "expected true or false, got 'maybe'"),
        (["--scores", "a.pkl", "--ema", "true"], "ema: has no effect on the path of a score file"),
        (["--dataset", "tiny", "--save", "/nowhere/f.pkl"], "its folder does not exist"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_error_message(arguments, message, runs, capsys):
    extra = ["--work-dir", runs] if "--dataset" in arguments else []
    code, _, err = run(capsys, *arguments, *extra)
    assert code == 2 and message in err and "Traceback" not in err


def test_trained_streams_without_scores_are_reported_with_the_commands_that_write_them(tmp_path, capsys):
    (tmp_path / "demo/ctrgcn/bone").mkdir(parents=True)
    (tmp_path / "demo/ctrgcn/bone/last.pt").touch()
    code, _, err = run(capsys, "--dataset", "demo", "--work-dir", tmp_path)
    assert code == 2 and err.count("main.py") == 1
    assert f"--modality bone --phase test --weights {tmp_path}/demo/ctrgcn/bone/last.pt --save-score true" in err


def test_a_run_directory_of_another_modality_is_named(runs, capsys):
    joint, bone = (runs / "tiny" / "net" / modality for modality in ("joint", "bone"))
    assert "trained on" not in "".join(run(capsys, "--joint-dir", joint, "--bone-dir", bone)[1:])
    code, *texts = run(capsys, "--joint-dir", bone, "--bone-dir", joint)
    assert code == 0 and "epoch1_test_score.pkl: trained on bone, fused with the weight of joint" in "".join(texts)


def test_the_same_file_twice_and_a_file_in_the_way_are_refused(runs, tmp_path, capsys):
    joint = runs / "tiny" / "net" / "joint"
    code, _, err = run(capsys, "--scores", joint, joint)
    assert code == 2 and "expected each score file once, got it as 2 streams" in err
    (tmp_path / "there.pkl").write_text("precious")
    code, _, err = run(capsys, "--dataset", "tiny", "--work-dir", runs, "--save", tmp_path / "there.pkl")
    assert code == 2 and "exists already" in err and (tmp_path / "there.pkl").read_text() == "precious"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--save", "."], 2, "expected the name of a file, got a folder"),
        (["--save", "x.pkl", "--json", "x.pkl"], 2, "json: expected another file than --save"),
        (["--json", "n" * 300], 2, "expected names of at most 255 bytes without NUL"),
        (["--model", "n" * 300], 2, "model: expected names of at most 255 bytes"),
        (["--seed", "-1"], 2, "seed: expected 0 or more, got -1"),
        (["--alpha", "1e308", "1e308"], 2, "alpha: expected weights whose sums are finite"),
        (["--json", "/proc/x"], 1, "/proc/x: "),
    ],
)
def test_an_impossible_file_or_number_is_a_one_line_error(
    arguments, code, message, runs, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    found, _, err = run(capsys, "--dataset", "tiny", "--work-dir", runs, "--overwrite", "true", *arguments)
    assert (found, err.count("\n"), err[:7]) == (code, 1, "error: ") and message in err and len(err) < 300
    assert not [path for path in tmp_path.iterdir() if path.is_file()]


def test_a_full_disk_and_an_interrupt_print_one_line_each(runs, tmp_path, capsys, monkeypatch):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    try:
        code, _, err = run(capsys, "--dataset", "tiny", "--work-dir", runs, "--save", tmp_path / "f.pkl")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert code == 1 and err.startswith(f"error: {tmp_path / 'f.pkl'}: cannot be written") and err.count("\n") == 1
    assert not list(tmp_path.glob("f.pkl*"))

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(fuse, "search_weights", interrupt)
    code, _, err = run(capsys, "--dataset", "tiny", "--work-dir", runs, "--search", "true")
    assert (code, err) == (130, "error: interrupted\n")


def test_names_of_folders_cannot_control_the_terminal(runs, capsys):
    (runs / "tiny" / "net").rename(runs / "tiny" / "red\x1b[31m\n")
    code, out, err = run(capsys, "--dataset", "tiny", "--work-dir", runs)
    assert (code, err) == (0, "") and "\x1b" not in out
    write_run(runs / "tiny" / "second" / "joint", runs.parent / "clips", "joint", seed=9)
    damaged = runs / "tiny" / "second" / "joint" / "\x1b[31m.pkl"
    damaged.write_bytes(b"damaged")
    code, _, err = run(capsys, "--scores", damaged)
    assert code == 2 and "\x1b" not in err and "\\x1b[31m.pkl" in err
    code, _, err = run(capsys, "--dataset", "tiny", "--work-dir", runs)
    assert code == 2 and "got red\\x1b[31m\\n, second" in err


def test_one_of_several_models_is_chosen_and_several_are_fused_by_name(runs, capsys):
    store = runs.parent / "clips"
    write_run(runs / "tiny" / "second" / "joint", store, "joint", seed=9)
    code, _, err = run(capsys, "--dataset", "tiny", "--work-dir", runs)
    assert code == 2 and "expected the scores of one model" in err and "got net, second" in err
    code, out, _ = run(capsys, "--dataset", "tiny", "--work-dir", runs, "--model", "net", "second")
    assert code == 0 and all(name in out for name in ("net/joint", "net/bone", "second/joint"))
    assert "left out" not in out  # streams that were never trained


def test_a_trained_stream_without_scores_is_omitted_with_the_command_that_writes_them(runs, capsys):
    (runs / "tiny" / "net" / "bone" / SCORE_FILE).unlink()
    code, out, _ = run(capsys, "--dataset", "tiny", "--work-dir", runs)
    assert code == 0 and "missing, so this stream is left out; to write it: python main.py" in out


def test_published_score_files_need_no_configuration_beside_them(runs, tmp_path, capsys):
    files = [tmp_path / f"{name}.pkl" for name in ("joint", "bone")]
    for file, modality in zip(files, ("joint", "bone"), strict=True):
        file.write_bytes((runs / "tiny/net" / modality / "epoch1_test_score.pkl").read_bytes())
    code, out, err = run(capsys, "--scores", *files, "--data", tmp_path / "clips", "--split", "xview")
    assert (code, err) == (0, "") and f"{top1(STREAMS[0]):.2f}" in out
    code, _, err = run(capsys, "--scores", *files, "--data", tmp_path / "clips", "--split", "xsub")
    assert code == 2 and "expected a split with a part, xview/train, xview/test" in err and "with --split" in err
    code, _, err = run(capsys, "--scores", *files, "--split", "xview")
    assert code == 2 and "split: expected --data as well" in err


def test_the_split_of_given_data_is_that_of_the_run(runs, tmp_path, capsys):
    index = tmp_path / "clips/index.npz"
    parts = dict(np.load(index))
    np.savez(index, **parts, **{"split/xsub/train": parts["split/xview/test"], "split/xsub/test": np.arange(2)})
    joint = runs / "tiny/net/joint"
    options = yaml.safe_load((joint / "config.yaml").read_text())
    options["test_feeder_args"]["split"] = "xview"
    (joint / "config.yaml").write_text(yaml.safe_dump(options))
    code, out, err = run(capsys, "--joint-dir", joint, "--data", tmp_path / "clips")
    assert (code, err) == (0, "") and f"{top1(STREAMS[0]):.2f}" in out


def test_the_held_out_clips_of_given_data_are_those_of_the_run(tmp_path, capsys):
    store = write_store(tmp_path / "clips")
    run_dir = write_run(tmp_path / "net/joint", store)
    options = yaml.safe_load((run_dir / "config.yaml").read_text())
    (run_dir / "config.yaml").write_text(yaml.safe_dump(options | {"hold_out": ["s1"]}))
    parts = dict(np.load(store / "index.npz"))
    np.savez(store / "index.npz", **parts | {"name": np.array(["a_s1", "a_s2", *NAMES])})
    write_scores(run_dir / SCORE_FILE, np.array(["a_s1"]), np.eye(7)[:1])
    code, out, err = run(capsys, "--joint-dir", run_dir, "--data", store)
    assert (code, err) == (0, "") and "100.00" in out


def test_labels_come_from_any_prepared_data_of_the_dataset(tmp_path, monkeypatch, capsys):
    """aagcn comes first in the alphabet and its data is not there; that of ctrgcn is."""
    store = write_store(tmp_path / "data/toy/ctrgcn.clips")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(score_files, "ROOT", tmp_path)
    for name in ("aagcn", "ctrgcn"):
        (tmp_path / "config/toy").mkdir(parents=True, exist_ok=True)
        arguments = {"data_path": f"data/toy/{name}.clips", "split": "xview"}
        options = {"feeder": "feeders.feeder_ucla.Feeder", "feeder_args": arguments}
        (tmp_path / f"config/toy/{name}.yaml").write_text(yaml.safe_dump(options))
    write_scores(tmp_path / "joint.pkl", NAMES, STREAMS[0])
    code, out, err = run(capsys, "--dataset", "toy", "--scores", "joint.pkl")
    assert (code, err) == (0, "") and f"{top1(STREAMS[0]):.2f}" in out
    monkeypatch.setenv(DATA_ROOT, "")
    (tmp_path / "big/toy").mkdir(parents=True)
    store.rename(tmp_path / "big/toy/ctrgcn.clips")
    code, _, err = run(capsys, "--dataset", "toy", "--scores", "joint.pkl", "--data-root", "big")
    assert (code, err) == (0, "")
    monkeypatch.setenv(DATA_ROOT, "")
    code, _, err = run(capsys, "--dataset", "toy", "--scores", "joint.pkl")
    assert code == 2 and "give another with --data" in err


def test_several_work_dirs_give_mean_and_spread_over_seeds(tmp_path, capsys):
    store, tops = write_store(tmp_path / "clips"), []
    for seed in range(3):
        folder = write_run(tmp_path / f"seed{seed}" / "tiny" / "net" / "joint", store, "joint")
        write_scores(folder / "epoch1_test_score.pkl", NAMES, STREAMS[seed])
        tops.append(top1(STREAMS[seed]))
    roots = [tmp_path / f"seed{seed}" for seed in range(3)]
    code, out, err = run(capsys, "--dataset", "tiny", "--work-dir", *roots, "--json", tmp_path / "t.json")
    assert (code, err) == (0, "") and f"{np.mean(tops):.2f} +- {np.std(tops, ddof=1):.2f}" in out
    assert json.loads((tmp_path / "t.json").read_text())["seeds"][0]["top1"] == pytest.approx(tops)
    code, _, err = run(capsys, "--dataset", "tiny", "--work-dir", roots[0], f"{roots[1]}/../seed0")
    assert code == 2 and "work_dir: expected a different folder for each seed" in err
    folder = write_run(tmp_path / "seed0" / "tiny" / "net" / "bone", store, "bone")
    write_scores(folder / "epoch1_test_score.pkl", NAMES, STREAMS[3])
    code, _, err = run(capsys, "--dataset", "tiny", "--work-dir", *roots)
    assert code == 2 and "expected the same streams for every seed" in err
