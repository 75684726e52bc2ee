// Poses in images, by two packages of MediaPipe from npm: `@mediapipe/pose` holds its models and needs a graphics
// processor; `@mediapipe/tasks-vision` also runs without one and needs the file pose_landmarker.task.

const POSE = "node_modules/@mediapipe/pose/";
const TASKS = "./node_modules/@mediapipe/tasks-vision/";
export const BUNDLE = "pose_landmarker.task";
const INSTALL = "not found; run npm install in the folder of this page";

// kind: "lite", "full" or "heavy", models of `@mediapipe/pose`, or "task", the file on the CPU. Gives `estimate(image,
// milliseconds)` -> null or {image: 33 arrays of x and y, shares of the image; world: 33 of x, y, z in meters}, and
// `close()`.
export function openEstimator(kind) {
  return kind === "task" ? openTask() : openPackage(["lite", "full", "heavy"].indexOf(kind));
}

async function openPackage(modelComplexity) {
  if (!window.Pose) await loadScript(`${POSE}pose.js`);
  const pose = new window.Pose({ locateFile: (name) => POSE + name });
  pose.setOptions({ modelComplexity, smoothLandmarks: true });
  let found = null;
  pose.onResults((results) => (found = results));
  await pose.initialize();
  return {
    async estimate(image, milliseconds) {
      found = null;
      await pose.send({ image }, milliseconds);
      return person(found?.poseLandmarks, found?.poseWorldLandmarks);
    },
    close: () => pose.close(),
  };
}

async function openTask() {
  const { FilesetResolver, PoseLandmarker } = await import(`${TASKS}vision_bundle.mjs`);
  const files = await FilesetResolver.forVisionTasks(`${TASKS}wasm`);
  const landmarker = await PoseLandmarker.createFromOptions(files, {
    baseOptions: { modelAssetPath: BUNDLE, delegate: "CPU" },
    runningMode: "VIDEO",
  });
  return {
    async estimate(image, milliseconds) {
      const found = landmarker.detectForVideo(image, milliseconds);
      return person(found.landmarks[0], found.worldLandmarks[0]);
    },
    close: () => landmarker.close(),
  };
}

function person(image, world) {
  return image && world ? { image: image.map((p) => [p.x, p.y]), world: world.map((p) => [p.x, p.y, p.z]) } : null;
}

function loadScript(source) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    Object.assign(script, { src: source, onload: resolve });
    script.onerror = () => reject(new Error(`${source}: ${INSTALL}`));
    document.head.append(script);
  });
}
