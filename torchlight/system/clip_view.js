"use strict";
// Fills each <section class="view"> with moving skeletons of the clips in its JSON. Texts of the clips are set as text
// only, never as HTML. Points are (T, M, V, D) int16 in little-endian order: right, up and toward the viewer.
const UNSEEN = -32768, FULL = 32767, FRAMES_PER_SECOND = 20, TURN = Math.PI / 16;
const CONTROLS = `
  <div class="bar">
    <label class="choice">Clip <select class="clips"></select></label><span class="note muted"></span>
  </div>
  <div class="now"></div>
  <canvas class="body" tabindex="0" role="img"></canvas>
  <div class="bar">
    <button type="button" class="play">Play</button>
    <input type="range" class="time" min="0" step="1" aria-label="Frame">
    <output></output>
    <label>Speed <select class="speed"><option>0.25<option>0.5<option selected>1<option>2<option>4</select></label>
    <button type="button" class="front">Front view</button>
  </div>
  <div class="rows"></div>`;

function decode(clip) {
  const bytes = Uint8Array.from(atob(clip.points), (c) => c.charCodeAt(0));
  const words = new DataView(bytes.buffer), [T, M, V, D] = clip.shape, points = new Float32Array(T * M * V * 3);
  let low = 0;
  const across = [], heights = [];
  for (let i = 0; i < T * M * V; i++) {
    const word = (d) => words.getInt16(2 * (i * D + d), true);
    if (word(0) === UNSEEN) { points.fill(NaN, 3 * i, 3 * i + 3); continue; }
    for (let d = 0; d < D; d++) points[3 * i + d] = word(d) / FULL;
    across.push(Math.hypot(points[3 * i], points[3 * i + 2]));
    heights.push(Math.abs(points[3 * i + 1]));
    low = Math.min(low, points[3 * i + 1]);
  }
  // ignore the farthest joints, which may be sensor errors, so that the body is not drawn too small
  const most = (values) => (values.length ? values.sort((a, b) => a - b)[Math.floor(0.995 * (values.length - 1))] : 1);
  return { points, low, across: most(across), high: most(heights) };
}

function view(section) {
  const data = JSON.parse(section.querySelector("script").textContent);
  section.querySelector("p").remove();
  section.insertAdjacentHTML("beforeend", CONTROLS);
  const find = (name) => section.querySelector(name);
  const canvas = find(".body"), slider = find(".time"), play = find(".play"), rows = find(".rows");
  let clip, shape, frame = 0, yaw = 0, pitch = 0, clock = null, elapsed = 0, lines = [];

  const color = (name) => getComputedStyle(section).getPropertyValue(`--${name}`).trim();
  const rate = () => clip.rate || FRAMES_PER_SECOND;
  const seconds = (t) => t / rate();
  const isFlat = () => clip.shape[3] === 2;

  function open(number) {
    clip = data.clips[number];
    shape = decode(clip);
    find(".note").textContent = data.clips.length > 1 ? "" : clip.name;
    slider.max = clip.shape[0] - 1;
    canvas.classList.toggle("flat", isFlat());
    find(".front").hidden = isFlat();
    const hint = isFlat() ? "space plays" : "drag or use the arrow keys to rotate; space plays";
    canvas.setAttribute("aria-label", `Skeleton of ${clip.name}; ${hint}`);
    lines = clip.curves.map(([name, values]) => addRow(name, (chart) => drawCurve(chart, values), values));
    const persons = [...new Set(clip.segments.map((segment) => segment[3]))];
    lines.unshift(...persons.map((person) => addRow(person || "label", (chart) => drawSegments(chart, person), null)));
    rows.replaceChildren(...lines.flatMap((line) => line.cells));
    front();
    seek(0);
  }

  function addRow(name, paint, values) {
    const [label, chart, value] = ["span", "canvas", "span"].map((tag) => document.createElement(tag));
    label.textContent = name;
    value.className = "n";
    chart.setAttribute("aria-hidden", "true"); // the text beside it has the same content
    chart.addEventListener("click", (event) => {
      const box = chart.getBoundingClientRect();
      seek(Math.round(((event.clientX - box.left) / box.width) * (clip.shape[0] - 1)));
    });
    return { cells: [label, chart, value], chart, value, values, paint };
  }

  const end = () => seconds(Math.max(clip.shape[0] - 1, 1));
  const current = () => clip.segments.filter(([a, b]) => a <= seconds(frame) + 1e-9 && seconds(frame) < b - 1e-9);

  function valueAt(values) { // the value at the last of clip.times that is not after the current frame
    let i = 0;
    while (i + 1 < clip.times.length && clip.times[i + 1] <= seconds(frame) + 1e-9) i++;
    return values[i];
  }

  function prepare(target) { // size the canvas in pixels of the screen
    const ratio = window.devicePixelRatio || 1, width = target.clientWidth, height = target.clientHeight;
    target.width = Math.round(width * ratio);
    target.height = Math.round(height * ratio);
    const context = target.getContext("2d");
    context.scale(ratio, ratio);
    return { context, width, height };
  }

  function drawCurve({ context, width, height }, values) {
    context.fillStyle = color("blue");
    for (let i = 0; i < values.length; i++) {
      if (values[i] === null) continue;
      const from = clip.times[i], to = i + 1 < values.length ? clip.times[i + 1] : end(), tall = height * values[i];
      context.fillRect((from / end()) * width, height - tall, ((to - from) / end()) * width + 1, tall);
    }
  }

  function drawSegments({ context, width, height }, person) {
    context.font = "12px system-ui, sans-serif";
    context.textBaseline = "middle";
    for (const [from, to, text, of] of clip.segments) {
      if (of !== person) continue;
      const x = (from / end()) * width, wide = ((to - from) / end()) * width - 1;
      context.save();
      context.beginPath();
      context.rect(x, 0, wide, height);
      context.clip();
      context.fillStyle = color("line");
      context.fillRect(x, 0, wide, height);
      context.fillStyle = color("ink");
      context.fillText(text, x + 5, height / 2);
      context.restore();
    }
  }

  function project(width, height) {
    const [sy, cy, sp, cp] = [Math.sin(yaw), Math.cos(yaw), Math.sin(pitch), Math.cos(pitch)];
    const tall = shape.high * Math.abs(cp) + shape.across * Math.abs(sp);
    const scale = 0.46 * Math.min(width / Math.max(shape.across, 1e-6), height / Math.max(tall, 1e-6));
    return (x, y, z) => {
      const side = x * cy + z * sy, depth = z * cy - x * sy;
      return [width / 2 + scale * side, height / 2 - scale * (y * cp - depth * sp), depth * cp + y * sp];
    };
  }

  function drawFloor(context, place) {
    context.strokeStyle = color("line");
    context.lineWidth = 1;
    context.beginPath();
    for (let i = -2; i <= 2; i++) {
      const a = (i / 2) * shape.across, b = shape.across;
      for (const [x, z, u, w] of [[a, -b, a, b], [-b, a, b, a]]) {
        context.moveTo(...place(x, shape.low, z).slice(0, 2));
        context.lineTo(...place(u, shape.low, w).slice(0, 2));
      }
    }
    context.stroke();
  }

  function drawBody() {
    const { context, width, height } = prepare(canvas), place = project(width, height), [, M, V] = clip.shape;
    if (!isFlat()) drawFloor(context, place);
    context.lineCap = "round";
    const tones = [color("muted"), color("blue"), color("orange")], ink = color("ink");
    for (let m = 0; m < M; m++) {
      const first = 3 * (frame * M + m) * V, at = [];
      for (let v = 0; v < V; v++) at.push(place(...shape.points.subarray(first + 3 * v, first + 3 * v + 3)));
      const bones = clip.bones.filter(([a, b]) => !Number.isNaN(at[a][0] + at[b][0]));
      bones.sort((p, q) => at[p[0]][2] + at[p[1]][2] - at[q[0]][2] - at[q[1]][2]); // the nearest one last
      for (const [a, b] of bones) {
        context.strokeStyle = tones[clip.sides[a]];
        context.lineWidth = 4 + (at[a][2] + at[b][2]);
        context.beginPath();
        context.moveTo(at[a][0], at[a][1]);
        context.lineTo(at[b][0], at[b][1]);
        context.stroke();
      }
      const seen = at.filter((p) => !Number.isNaN(p[0]));
      context.fillStyle = ink;
      for (const [x, y] of seen) context.fillRect(x - 1.5, y - 1.5, 3, 3);
      if (!seen.length || !clip.persons[m]) continue;
      const top = seen.reduce((p, q) => (p[1] < q[1] ? p : q));
      context.font = "13px system-ui, sans-serif";
      context.textAlign = "center";
      context.fillText(clip.persons[m], top[0], Math.max(top[1] - 8, 13));
    }
  }

  function draw() {
    drawBody();
    for (const { chart, value, values, paint } of lines) {
      const area = prepare(chart);
      area.context.strokeStyle = color("line");
      area.context.strokeRect(0.5, 0.5, area.width - 1, area.height - 1);
      paint(area);
      area.context.fillStyle = color("orange");
      area.context.fillRect(Math.min((seconds(frame) / end()) * area.width, area.width - 2), 0, 2, area.height);
      const p = values && valueAt(values);
      value.textContent = values ? (p === null ? "" : `${(100 * p).toFixed(0)} %`) : "";
    }
  }

  function seek(t) {
    frame = Math.min(Math.max(t, 0), clip.shape[0] - 1);
    slider.value = frame;
    const place = `frame ${frame + 1} of ${clip.shape[0]}`;
    find("output").textContent = clip.rate ? `${seconds(frame).toFixed(2)} s` : place;
    slider.setAttribute("aria-valuetext", find("output").textContent);
    find(".now").textContent = current().map(([, , text, of]) => `${of} ${text}`.trim()).join("\n");
    section.dataset.frame = frame;
    draw();
  }

  function rotate(dx, dy) {
    if (isFlat()) return;
    yaw += dx;
    pitch = Math.min(Math.max(pitch + dy, -Math.PI / 2), Math.PI / 2);
    draw();
  }

  function front() {
    yaw = 0;
    pitch = isFlat() ? 0 : 0.15;
  }

  function start(on) {
    play.textContent = on ? "Pause" : "Play";
    clock = on ? clock || requestAnimationFrame(tick) : void cancelAnimationFrame(clock);
    elapsed = 0;
  }

  let before = 0;
  function tick(now) {
    elapsed += Math.min(now - before, 100) * find(".speed").value * 0.001 * rate();
    before = now;
    if (elapsed >= 1) {
      seek((frame + Math.floor(elapsed)) % clip.shape[0]);
      elapsed %= 1;
    }
    clock = requestAnimationFrame(tick);
  }

  const choice = find(".clips");
  data.clips.forEach(({ name }, i) => choice.add(new Option(name, i)));
  find(".choice").hidden = data.clips.length < 2;
  choice.addEventListener("change", () => open(Number(choice.value)));
  slider.addEventListener("input", () => seek(Number(slider.value)));
  play.addEventListener("click", () => start(!clock));
  find(".front").addEventListener("click", () => { front(); draw(); });
  canvas.addEventListener("keydown", (event) => {
    const turns = { ArrowLeft: [-TURN, 0], ArrowRight: [TURN, 0], ArrowUp: [0, TURN], ArrowDown: [0, -TURN] };
    if (event.key in turns) rotate(...turns[event.key]);
    else if (event.key === " ") start(!clock);
    else if (event.key === "Home") { front(); draw(); }
    else return;
    event.preventDefault();
  });
  canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
  canvas.addEventListener("pointermove", (event) => {
    if (event.buttons & 1) rotate(event.movementX * 0.01, event.movementY * 0.01);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  open(0);
  new ResizeObserver(draw).observe(section);
  if (data.play && !matchMedia("(prefers-reduced-motion: reduce)").matches) start(true);
}

document.querySelectorAll(".view").forEach(view);
