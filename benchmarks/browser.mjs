// The page of docs/browser in headless Chromium: all clips, and the camera if a video takes its place.
// node browser.mjs '{"page": URL, "out": FOLDER, "chromium": FILE, "modules": FOLDER, "video": FILE or null,
//   "estimator": NAME, "seconds": N}'

import { createRequire } from "node:module";
import { join } from "node:path";

const options = JSON.parse(process.argv[2]);
const { chromium } = createRequire(join(options.modules, "x.js"))("playwright-core");
const flags = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"];
if (options.video) {
  flags.push("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream");
  flags.push(`--use-file-for-fake-video-capture=${options.video}`);
}
const browser = await chromium.launch({ executablePath: options.chromium, args: flags });
try {
  const page = await browser.newPage({ viewport: { width: 1000, height: 1150 } });
  const outside = [];
  page.on("request", (request) => {
    if (!/^(blob|data):/.test(request.url()) && !request.url().startsWith(options.page)) outside.push(request.url());
  });
  await page.goto(options.page);
  await page.waitForFunction(() => document.body.dataset.state, null, { timeout: 120000 });
  const failure = () => page.textContent("#error");
  if (await failure()) throw new Error(await failure());
  const found = { clips: await page.evaluate(() => window.page.check()) };
  found.clips.largest = Math.max(...found.clips.logits.flat().map(Math.abs));
  delete found.clips.logits;
  await page.screenshot({ path: join(options.out, "clips.png"), fullPage: true });
  if (options.video) {
    await page.selectOption("#estimator", options.estimator);
    await page.click("#camera");
    await page.waitForFunction(() => window.page.live?.measured.frames || document.querySelector("#error").textContent, null, {
      timeout: 120000,
    });
    found.labels = await watch(page, options);
    found.camera = await page.evaluate(() => window.page.live.summary());
    if (await failure()) throw new Error(await failure());
  }
  found.outside = outside;
  if (outside.length) throw new Error(`expected requests to the page's own server only, got ${outside.join(", ")}`);
  console.log(JSON.stringify(found));
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  await browser.close();
}

// The labels that the page shows in these seconds, each with the number of tenths of a second, and pictures of it.
async function watch(page, { out, seconds }) {
  const labels = {};
  for (let i = 0; i < seconds * 10; i++) {
    await page.waitForTimeout(100);
    const label = await page.textContent("#live-label");
    labels[label] = (labels[label] ?? 0) + 1;
    if (i % 100 === 50) await page.screenshot({ path: join(out, `camera_${Math.floor(i / 10)}.png`), fullPage: true });
  }
  return labels;
}
