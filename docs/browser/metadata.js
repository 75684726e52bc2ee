// The metadata of an ONNX file, which onnxruntime-web does not give: field 14 of the file's protobuf message, pairs of
// texts. The values are JSON (docs/export.md).

const METADATA = 14; // ModelProto.metadata_props
const [VARINT, FIXED64, BYTES, FIXED32] = [0, 1, 2, 5]; // how a field is stored

// {key: value} of a file; throws an Error if `--phase export` did not write it.
export function readMetadata(bytes) {
  const found = {};
  try {
    for (const { number, value } of fields(bytes)) {
      if (number !== METADATA) continue;
      const pair = {};
      for (const part of fields(value)) pair[part.number] = new TextDecoder().decode(part.value);
      found[pair[1]] = JSON.parse(pair[2]);
    }
  } catch (error) {
    throw new Error(`expected a network in the ONNX format, got a file that cannot be read (${error.message})`);
  }
  if (found.version !== 1 || !found.input || !found.config) {
    throw new Error("expected a network that --phase export wrote, got a file without its metadata");
  }
  return found;
}

// The fields of a protobuf message; of numbers only the place is skipped.
function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      if (at >= bytes.length || scale > 2 ** 63) throw new Error("a damaged number");
      const byte = bytes[at++];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    const kind = tag % 8;
    let size = { [FIXED64]: 8, [FIXED32]: 4 }[kind] ?? 0;
    if (kind === BYTES) size = varint();
    else if (kind === VARINT) varint();
    else if (!size) throw new Error("an unknown field");
    if (at + size > bytes.length) throw new Error("a field that ends after the file");
    yield { number: Math.floor(tag / 8), value: bytes.subarray(at, at + size) };
    at += size;
  }
}
