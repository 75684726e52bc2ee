// A network that `--phase export --format onnx` wrote: its metadata, and its logits with onnxruntime-web.

import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";
import { readMetadata } from "./metadata.js";

ort.env.wasm.numThreads = 1; // more need headers that simple web servers do not send

// Opens the bytes of a file; throws an Error for a file that is no exported network of one input.
export async function openNetwork(bytes) {
  const metadata = readMetadata(bytes);
  if (metadata.input.time) throw new Error("input: expected data only, got a network that also takes times of frames");
  const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  const shape = [1, ...metadata.input.data.slice(1)];
  return {
    metadata,
    names: metadata.class_names ?? Array.from({ length: metadata.num_class }, (_, i) => `${i}`),
    // Logits of one clip (1, C, T, V, M).
    async run(input) {
      const { logits } = await session.run({ data: new ort.Tensor("float32", input, shape) });
      return Array.from(logits.data);
    },
  };
}

export function softmax(logits) {
  const largest = Math.max(...logits);
  const e = logits.map((x) => Math.exp(x - largest));
  const sum = e.reduce((a, b) => a + b);
  return e.map((x) => x / sum);
}
