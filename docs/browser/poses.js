// One person whom MediaPipe sees, as clips: the steps of data/poses and torchlight/predict/stream.py, without Python.
// The tables (joints, rate, origin) are in the metadata of the network, under `mediapipe`.

const HIPS = [23, 24];
const FOCAL = 1.1; // focal length in units of the larger image side
const SMOOTH_SECONDS = 0.5; // of the size in the image
const MAX_GAP = 0.3; // seconds between two poses that are interpolated
const GRID_RATE = 30; // frames per second that count as no gap
const LEAST_SEEN = 0.5; // share of the window in which the person must be seen
const FORGOTTEN = 1; // seconds
const COORDINATES = [0, 1, 2];

// Joints of another body from those of a pose (V arrays of x, y, z); MediaPipe gives all joints of a pose.
export function applyMaps(maps, pose) {
  for (const { joints, steps } of maps) {
    const made = new Array(joints);
    for (const { joint, rule } of steps) {
      const x = rule.of.map(([place, i]) => (place === "s" ? pose : made)[i]);
      made[joint] = COORDINATES.map((c) =>
        rule.kind === "extend" ? x[0][c] + rule.factor * (x[0][c] - x[1][c]) : x.reduce((sum, p) => sum + p[c], 0) / x.length,
      );
    }
    pose = made;
  }
  return pose;
}

// World landmarks have their origin between the hips; this moves them to where the body is, in meters.
// The scale (meters per pixel) of the image gives the place; see data/poses/body_path.py.
export class BodyPath {
  constructor() {
    this.mean = NaN;
  }

  move(time, world, image, [width, height]) {
    const middle = (points, c) => (points[HIPS[0]][c] + points[HIPS[1]][c]) / 2;
    let [above, below] = [0, 0];
    image.forEach((p, i) => {
      for (const c of [0, 1]) {
        const pixels = p[c] - middle(image, c);
        above += world[i][c] * pixels;
        below += pixels * pixels;
      }
    });
    let scale = above / below;
    if (!(Number.isFinite(scale) && scale > 0)) scale = this.mean;
    else if (Number.isFinite(this.mean)) {
      scale = this.mean + (1 - Math.exp((this.time - time) / SMOOTH_SECONDS)) * (scale - this.mean);
    }
    [this.mean, this.time] = [scale, time];
    const place = [(middle(image, 0) - width / 2) * scale, (middle(image, 1) - height / 2) * scale];
    place.push(FOCAL * Math.max(width, height) * scale);
    return world.map((p) => COORDINATES.map((c) => p[c] + place[c]));
  }
}

// The poses of the last seconds.
export class Person {
  constructor({ mediapipe, clips }) {
    if (!mediapipe) throw new Error("mediapipe: expected a network of joints in meters that MediaPipe's lead to, got another");
    Object.assign(this, { tables: mediapipe, slots: clips.num_person });
    this.forget();
  }

  forget() {
    Object.assign(this, { poses: [], path: new BodyPath() });
  }

  // A pose at a time in seconds: world landmarks in meters and image landmarks in pixels of an image of this size.
  push(time, world, image, size) {
    const last = this.poses.at(-1);
    if (last && (time - last.time > FORGOTTEN || isJump(last, time, image))) this.forget();
    const moved = this.path.move(time, world, image, size);
    if (moved.flat().some((x) => !Number.isFinite(x))) return;
    const points = applyMaps(this.tables.maps, moved).map(([x, y, z]) => [-x, -y, z]); // axes of Kinect
    this.poses.push({ time, points, image });
    const oldest = time - this.tables.seconds - MAX_GAP;
    this.poses = this.poses.filter((pose) => pose.time >= oldest);
  }

  // The clip of the window that ends now; null if the person was seen too little.
  clip(now) {
    const { rate, seconds, origin, repeat } = this.tables;
    if (!this.poses.length || now - this.poses[0].time < LEAST_SEEN * seconds - 1e-9) return null;
    const count = Math.floor((now - Math.max(now - seconds, this.poses[0].time)) * rate + 1e-6) + 1;
    const sampled = Array.from({ length: count }, (_, i) => this.sample(now - (count - 1 - i) / rate));
    if (sampled.filter(Boolean).length / count < LEAST_SEEN) return null;
    const frames = fill(sampled, Math.max(1, Math.round(MAX_GAP * rate))).filter(Boolean);
    const [T, V] = [frames.length, frames[0].length];
    const data = new Float32Array(this.slots * T * V * 3);
    const start = frames[0][origin];
    for (let m = 0; m < (repeat ? this.slots : 1); m++)
      frames.forEach((points, t) =>
        points.forEach((p, v) => COORDINATES.forEach((c) => (data[((m * T + t) * V + v) * 3 + c] = p[c] - start[c]))),
      );
    return { shape: [this.slots, T, V, 3], data };
  }

  // Joints at a time: linear between two poses, null in longer gaps.
  sample(time) {
    const { poses } = this;
    const next = poses.findIndex((pose) => pose.time >= time);
    const after = next < 0 ? poses.length - 1 : next;
    const before = Math.max(0, next < 0 ? after : after - 1);
    const [a, b] = [poses[before], poses[after]];
    const outside = Math.max(poses[0].time - time, time - poses.at(-1).time);
    const width = b.time - a.time;
    const near = Math.min(Math.abs(time - a.time), Math.abs(time - b.time));
    if (outside > 1.5 / GRID_RATE || (width > MAX_GAP && near > 0.5 / GRID_RATE)) return null;
    const share = width > 0 ? Math.min(1, Math.max(0, (time - a.time) / width)) : 1;
    return between(a.points, b.points, share);
  }
}

function between(a, b, share) {
  return a.map((p, v) => COORDINATES.map((c) => p[c] * (1 - share) + b[v][c] * share));
}

// Frames (null: not seen) with gaps of at most `longest` frames interpolated.
function fill(frames, longest) {
  const known = frames.flatMap((points, t) => (points ? [t] : []));
  return frames.map((points, t) => {
    const before = known.findLast((k) => k < t);
    const after = known.find((k) => k > t);
    if (points || before === undefined || after === undefined || after - before > longest + 1) return points;
    return between(frames[before], frames[after], (t - before) / (after - before));
  });
}

// Whether a pose is that of another person: more than a body height away within 0.1 seconds.
function isJump(last, time, image) {
  const y = image.map((p) => p[1]);
  const height = Math.max(...y) - Math.min(...y);
  const [dx, dy] = [0, 1].map((c) => image[HIPS[0]][c] - last.image[HIPS[0]][c]);
  return Math.hypot(dx, dy) > height * Math.max(1, (time - last.time) / 0.1);
}
