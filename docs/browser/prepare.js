// Clips of joints as a network takes them: the test clips of feeders/feeder_ntu.py, without PyTorch.
// A clip is {shape: [M, T, V, C], data: Float32Array}: persons, frames, joints, coordinates; absent persons are zero.

const FEEDER = "feeders.feeder_ntu.Feeder";
const MODALITIES = ["joint", "bone", "joint_motion", "bone_motion"];

// The preparation that the metadata of an exported network state; throws an Error for one that this file does not have.
export function preparation(metadata) {
  const { feeder, modality, test_feeder_args: args } = metadata.config;
  const share = args.p_interval ?? [0.95];
  const expect = (fits, key, expected, got) => {
    if (!fits) throw new Error(`config: ${key}: expected ${expected}, got ${JSON.stringify(got)}`);
  };
  expect(feeder === FEEDER, "feeder", FEEDER, feeder);
  expect(MODALITIES.includes(modality), "modality", MODALITIES.join(", "), modality);
  expect(share.length === 1, "p_interval", "one number", share);
  for (const key of ["unify", "append_joints", "random_rot"]) expect(!args[key], key, "false", args[key]);
  expect(!(args.relative ?? []).length, "relative", "none", args.relative);
  const { channels, score } = metadata.clips;
  expect(channels === 3 && !score && metadata.layout !== "coco", "layout", "joints in meters", metadata.layout);
  return {
    window: args.window_size ?? 64,
    share: share[0],
    modality,
    persons: metadata.clips.num_person,
    parents: metadata.clips.body.bone_parents,
  };
}

// The input of the network, (1, C, T, V, M), for one clip.
export function prepare(clip, how) {
  const [M, , V, C] = clip.shape;
  if (M !== how.persons || V !== how.parents.length || C !== 3) {
    throw new Error(`clip: expected (${how.persons}, T, ${how.parents.length}, 3), got (${clip.shape.join(", ")})`);
  }
  const valid = countFrames(clip);
  if (!valid) throw new Error("clip: expected at least one joint, got none");
  const begin = Math.floor(((1 - how.share) * valid) / 2);
  let x = resize(clip, begin, valid - 2 * begin, how.window);
  if (how.modality.startsWith("bone")) x = bone(x, how.parents);
  if (how.modality.endsWith("motion")) x = motion(x);
  const input = new Float32Array(C * how.window * V * M);
  for (let m = 0, i = 0; m < M; m++)
    for (let t = 0; t < how.window; t++)
      for (let v = 0; v < V; v++)
        for (let c = 0; c < C; c++, i++) input[((c * how.window + t) * V + v) * M + m] = x.data[i];
  return input;
}

// Frames in which a coordinate of a person is not zero.
function countFrames({ shape: [M, T, V, C], data }) {
  let count = 0;
  for (let t = 0; t < T; t++) {
    let full = false;
    for (let m = 0; m < M && !full; m++) full = data.subarray((m * T + t) * V * C, (m * T + t + 1) * V * C).some(Boolean);
    count += full;
  }
  return count;
}

// `window` frames by linear interpolation of `length` frames with half-pixel centers, rounded to float32 as in PyTorch.
function resize({ shape: [M, T, V, C], data }, begin, length, window) {
  const out = new Float32Array(M * window * V * C);
  const scale = Math.fround(length / window);
  for (let t = 0; t < window; t++) {
    const place = Math.fround(Math.max(0, scale * (t + 0.5) - 0.5));
    const early = Math.min(Math.floor(place), length - 1);
    const late = Math.min(early + 1, length - 1);
    const weight = Math.fround(place - early);
    for (let m = 0; m < M; m++) {
      const a = (m * T + begin + early) * V * C;
      const b = (m * T + begin + late) * V * C;
      for (let i = 0; i < V * C; i++) {
        out[(m * window + t) * V * C + i] = data[b + i] * weight + data[a + i] * (1 - weight);
      }
    }
  }
  return { shape: [M, window, V, C], data: out };
}

// Each joint minus the joint where its bone starts; the root's bone is 0.
function bone({ shape, data }, parents) {
  const [, , V, C] = shape;
  const out = new Float32Array(data.length);
  for (let i = 0; i < data.length; i++) {
    const v = Math.floor(i / C) % V;
    out[i] = data[i] - data[i + (parents[v] - v) * C];
  }
  return { shape, data: out };
}

// The next frame minus this one; the last frame 0.
function motion({ shape, data }) {
  const [M, T, V, C] = shape;
  const out = new Float32Array(data.length);
  for (let m = 0; m < M; m++)
    for (let i = m * T * V * C; i < (m * T + T - 1) * V * C; i++) out[i] = data[i + V * C] - data[i];
  return { shape, data: out };
}
