// Labels while a person is seen: frames of a camera or a video -> MediaPipe -> window -> network. All files are local.

import { drawPerson } from "./draw.js";
import { openEstimator } from "./estimator.js";
import { softmax } from "./network.js";
import { Person } from "./poses.js";
import { prepare } from "./prepare.js";

const STRIDES = 10; // predictions in a window
const TAU = 0.5; // seconds over which probabilities are smoothed
const ON = 0.5; // smoothed probability from which a class is shown
const KEPT = 300; // measurements of which the medians are taken

export class Live {
  // canvas: where image and pose are drawn. estimator: see `openEstimator`. onLabel({label, probabilities}),
  // onFacts(text).
  constructor(network, how, { canvas, estimator, onLabel, onFacts }) {
    Object.assign(this, { network, how, canvas, estimator, onLabel, onFacts, running: false });
    this.person = new Person(network.metadata);
    this.stride = network.metadata.mediapipe.seconds / STRIDES;
    this.measured = { frames: 0, poses: 0, labels: 0, pose: [], label: [], latency: [] };
  }

  // Labels the frames of an asynchronous iterator of {image, time (seconds), arrived (milliseconds), size} until it
  // ends or `stop` is called.
  async run(frames) {
    this.running = true;
    this.ended = this.loop(frames);
    await this.ended;
  }

  async stop() {
    this.running = false;
    await this.ended;
  }

  async loop(frames) {
    this.onLabel({ label: "loading the models ..." });
    const pose = await openEstimator(this.estimator);
    try {
      for await (const frame of frames) {
        if (!this.running) break;
        await this.step(pose, frame);
      }
    } finally {
      this.running = false;
      await pose.close();
    }
  }

  async step(pose, frame) {
    const before = performance.now();
    const found = await pose.estimate(frame.image, frame.time * 1000);
    const posed = performance.now();
    this.note("pose", posed - before);
    this.measured.frames++;
    this.first ??= frame.arrived;
    const image = found?.image.map((p) => p.map((x, c) => x * frame.size[c]));
    if (image) {
      this.measured.poses++;
      this.person.push(frame.time, found.world, image, frame.size);
    }
    this.draw(frame, image);
    this.due ??= frame.time + this.stride;
    if (frame.time >= this.due - 1e-9) {
      this.due = Math.max(this.due + this.stride, frame.time);
      await this.label(frame);
    }
    this.facts();
  }

  async label(frame) {
    const start = performance.now();
    const clip = this.person.clip(frame.time);
    if (!clip) {
      this.smoothed = null;
      this.onLabel({ label: "waiting for a person ..." });
      return;
    }
    const p = softmax(await this.network.run(prepare(clip, this.how)));
    const keep = this.smoothed ? Math.exp((this.last - frame.time) / TAU) : 0;
    this.smoothed = p.map((x, i) => x + keep * ((this.smoothed?.[i] ?? 0) - x));
    this.last = frame.time;
    const best = this.smoothed.indexOf(Math.max(...this.smoothed));
    const label = this.smoothed[best] >= ON ? this.network.names[best] : "no action";
    this.onLabel({ label, probabilities: this.smoothed });
    this.measured.labels++;
    this.note("label", performance.now() - start);
    this.note("latency", performance.now() - frame.arrived);
  }

  note(stage, milliseconds) {
    const values = this.measured[stage];
    values.push(milliseconds);
    if (values.length > KEPT) values.shift();
  }

  // Counts, frames per second, and {stage: [median, 95th percentile]} in milliseconds.
  summary() {
    const { frames, poses, labels } = this.measured;
    const seconds = (performance.now() - this.first) / 1000;
    const stages = ["pose", "label", "latency"].map((stage) => {
      const sorted = [...this.measured[stage]].sort((a, b) => a - b);
      return [stage, [0.5, 0.95].map((q) => sorted[Math.floor(q * (sorted.length - 1))])];
    });
    return { frames, poses, labels, rate: frames / seconds, ...Object.fromEntries(stages) };
  }

  facts() {
    const { frames, poses, labels, rate, pose, label, latency } = this.summary();
    const pair = ([median, high]) => (median === undefined ? "-" : `${median.toFixed(0)} (${high.toFixed(0)}) ms`);
    this.onFacts(
      `${rate.toFixed(1)} frames/s; ${frames} frames, ${poses} with a person, ${labels} predictions; median (95 %): ` +
        `pose ${pair(pose)}, window and network ${pair(label)}, image to label ${pair(latency)}`,
    );
  }

  draw(frame, image) {
    const context = this.canvas.getContext("2d");
    const [width, height] = frame.size;
    this.canvas.height = Math.round((this.canvas.width * height) / width);
    context.drawImage(frame.image, 0, 0, this.canvas.width, this.canvas.height);
    const scale = this.canvas.width / width;
    const points = image?.map((p) => p.map((x) => x * scale));
    drawPerson(context, points, this.network.metadata.mediapipe.parents);
  }
}

// The newest image of the camera, as often as asked for.
export async function* cameraFrames() {
  const stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640 }, audio: false });
  const video = Object.assign(document.createElement("video"), { srcObject: stream, muted: true });
  await video.play();
  try {
    for (;;) {
      const { now, facts } = await new Promise((resolve) =>
        video.requestVideoFrameCallback((now, facts) => resolve({ now, facts })),
      );
      const arrived = facts.captureTime ?? now;
      yield { image: video, time: arrived / 1000, arrived, size: [video.videoWidth, video.videoHeight] };
    }
  } finally {
    stream.getTracks().forEach((track) => track.stop());
  }
}

// The images of a video file, `rate` per second of the video, however long each takes.
export async function* videoFrames(source, rate = 30) {
  const video = Object.assign(document.createElement("video"), { src: source, muted: true });
  await new Promise((resolve, reject) => {
    video.onloadeddata = resolve;
    video.onerror = () => reject(new Error("expected a video that this browser can play, got another file"));
  });
  for (let i = 0; i / rate < video.duration; i++) {
    const seeked = new Promise((resolve) => (video.onseeked = resolve));
    video.currentTime = (i + 0.5) / rate;
    await seeked;
    const size = [video.videoWidth, video.videoHeight];
    yield { image: video, time: i / rate, arrived: performance.now(), size };
  }
}
