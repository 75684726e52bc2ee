// Skeletons on a canvas, and probabilities as bars.

const COLORS = ["#6fc3ff", "#ffb454", "#9be37d", "#ff7d9c"];

// points: V arrays of x and y in pixels of the canvas, or null for an absent person.
export function drawPerson(context, points, parents, color = 0) {
  if (!points) return;
  context.lineWidth = 3;
  context.strokeStyle = context.fillStyle = COLORS[color % COLORS.length];
  parents.forEach((parent, v) => {
    context.beginPath();
    context.moveTo(points[v][0], points[v][1]);
    context.lineTo(points[parent][0], points[parent][1]);
    context.stroke();
    context.beginPath();
    context.arc(points[v][0], points[v][1], 3, 0, 7);
    context.fill();
  });
}

// Draws frame t of a clip in meters (axes of Kinect: x to the left of the picture, y up) inside `box`.
export function drawClip(context, { shape: [M, T, V, C], data }, t, parents, box) {
  const { width, height } = context.canvas;
  const scale = 0.85 * Math.min(width / (box.high[0] - box.low[0]), height / (box.high[1] - box.low[1]));
  const middle = [0, 1].map((c) => (box.high[c] + box.low[c]) / 2);
  context.clearRect(0, 0, width, height);
  for (let m = 0; m < M; m++) {
    const at = (v, c) => data[((m * T + t) * V + v) * C + c];
    const points = Array.from({ length: V }, (_, v) => [
      width / 2 - (at(v, 0) - middle[0]) * scale,
      height / 2 - (at(v, 1) - middle[1]) * scale,
    ]);
    const seen = data.subarray((m * T + t) * V * C, (m * T + t + 1) * V * C).some(Boolean);
    drawPerson(context, seen ? points : null, parents, m);
  }
}

// The smallest box around all joints of a clip in x and y.
export function boxOf({ shape: [, , , C], data }) {
  const box = { low: [Infinity, Infinity], high: [-Infinity, -Infinity] };
  for (let i = 0; i < data.length; i += C) {
    if (!data[i] && !data[i + 1]) continue;
    for (const c of [0, 1]) {
      box.low[c] = Math.min(box.low[c], data[i + c]);
      box.high[c] = Math.max(box.high[c], data[i + c]);
    }
  }
  return box;
}

// The three most probable classes.
export function showBars(element, names, probabilities) {
  const order = probabilities.map((_, i) => i).sort((a, b) => probabilities[b] - probabilities[a]);
  element.replaceChildren(
    ...order.slice(0, 3).map((i) => {
      const [row, name, bar, number] = ["div", "span", "i", "span"].map((tag) => document.createElement(tag));
      row.className = "bar";
      name.textContent = names[i];
      bar.style.width = `${100 * probabilities[i]}%`;
      number.textContent = probabilities[i].toFixed(2);
      row.append(name, bar, number);
      return row;
    }),
  );
}
