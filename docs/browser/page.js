// The page: opens the network, shows clips, and starts live predictions.
//
// index.html?network=FILE.onnx&clips=FILE.json; default: network.onnx and clips.json beside the page, the second if it
// is there. `python -m benchmarks.browser` writes both.

import { boxOf, drawClip, showBars } from "./draw.js";
import { BUNDLE } from "./estimator.js";
import { Live, cameraFrames, videoFrames } from "./live.js";
import { openNetwork, softmax } from "./network.js";
import { prepare, preparation } from "./prepare.js";

const get = (id) => document.getElementById(id);
const options = new URLSearchParams(location.search);
const page = { network: null, how: null, clips: [], shown: null, live: null };
window.page = page; // for tests

function fail(error) {
  get("error").textContent = error.message ?? `${error}`;
  document.body.dataset.state = "error";
}

const guarded = (action) => (...words) => Promise.resolve(action(...words)).catch(fail);

async function open(bytes) {
  get("error").textContent = "";
  const network = await openNetwork(bytes);
  Object.assign(page, { network, how: preparation(network.metadata) });
  const { metadata, names } = network;
  get("network-facts").textContent =
    `${metadata.model}, ${names.length} classes, ${metadata.modality} of ${metadata.layout}, ` +
    `input (${metadata.input.data.join(", ")})`;
  get("live").hidden = false;
}

async function loadClips(file) {
  const found = await fetch(file);
  if (!found.ok) return;
  const { clips, data } = await found.json();
  const numbers = new Float32Array(await (await fetch(new URL(data, found.url))).arrayBuffer());
  let at = 0;
  page.clips = clips.map((clip) => {
    const size = clip.shape.reduce((a, b) => a * b);
    at += size;
    return { ...clip, data: numbers.subarray(at - size, at) };
  });
  get("clip").replaceChildren(...page.clips.map((clip, i) => new Option(`${clip.name}, ${clip.label}`, i)));
  get("clips").hidden = false;
  await show(0);
}

async function show(i) {
  const clip = page.clips[i];
  const logits = await page.network.run(prepare(clip, page.how));
  const probabilities = softmax(logits);
  const best = probabilities.indexOf(Math.max(...probabilities));
  page.shown = { clip, box: boxOf(clip), start: performance.now() };
  get("clip").value = i;
  get("clip-label").textContent = page.network.names[best];
  get("clip-facts").textContent = `true class: ${clip.label}; ${clip.shape[1]} frames`;
  showBars(get("clip-bars"), page.network.names, probabilities);
}

function animate(now) {
  if (page.shown) {
    const { clip, box, start } = page.shown;
    const rate = page.network.metadata.mediapipe?.rate ?? 30;
    const t = Math.max(0, Math.floor(((now - start) / 1000) * rate)) % clip.shape[1];
    drawClip(get("clip-canvas").getContext("2d"), clip, t, page.network.metadata.clips.body.parents, box);
  }
  requestAnimationFrame(animate);
}

// Runs all clips and compares the logits with those that are stored beside them.
async function check() {
  const found = { clips: page.clips.length, equal: 0, correct: 0, difference: 0, logits: [] };
  const largest = (x) => x.indexOf(Math.max(...x));
  const start = performance.now();
  for (const clip of page.clips) {
    const logits = await page.network.run(prepare(clip, page.how));
    found.logits.push(logits);
    found.equal += largest(logits) === largest(clip.logits);
    found.correct += page.network.names[largest(logits)] === clip.label;
    found.difference = Math.max(found.difference, ...logits.map((x, i) => Math.abs(x - clip.logits[i])));
  }
  found.milliseconds = (performance.now() - start) / page.clips.length;
  get("check-facts").textContent =
    `${found.equal} of ${found.clips} clips have the class of PyTorch, ${found.correct} the true class; largest ` +
    `difference of a logit ${found.difference.toExponential(1)}; ${found.milliseconds.toFixed(1)} ms per clip`;
  return found;
}

async function start(frames) {
  await stop();
  get("error").textContent = "";
  page.live = new Live(page.network, page.how, {
    canvas: get("live-canvas"),
    estimator: get("estimator").value,
    onLabel({ label, probabilities }) {
      get("live-label").textContent = label;
      if (probabilities) showBars(get("live-bars"), page.network.names, probabilities);
      else get("live-bars").replaceChildren();
    },
    onFacts: (text) => (get("live-facts").textContent = text),
  });
  await page.live.run(frames);
}

async function stop() {
  await page.live?.stop();
}

get("clip").onchange = guarded((event) => show(Number(event.target.value)));
get("check").onclick = guarded(check);
get("network-file").onchange = guarded(async (event) => {
  await stop();
  await open(new Uint8Array(await event.target.files[0].arrayBuffer()));
  if (page.clips.length) await show(0);
});
get("camera").onclick = guarded(() => start(cameraFrames()));
get("video-file").onchange = guarded((event) =>
  start(videoFrames(URL.createObjectURL(event.target.files[0]), page.network.metadata.mediapipe?.rate)),
);
get("stop").onclick = guarded(stop);
Object.assign(page, { check, show, start, stop });

try {
  const file = options.get("network") ?? "network.onnx";
  const found = await fetch(file);
  if (!found.ok) throw new Error(`${file}: expected a network, got the answer ${found.status}; choose a file`);
  await open(new Uint8Array(await found.arrayBuffer()));
  if ((await fetch(BUNDLE, { method: "HEAD" })).ok) get("estimator").add(new Option(`${BUNDLE}, on the CPU`, "task"));
  await loadClips(options.get("clips") ?? "clips.json");
  requestAnimationFrame(animate);
  document.body.dataset.state = "ready";
} catch (error) {
  fail(error);
}
