// What is shown, as files: .npz and .csv as `s2ld match` writes them, and pictures. Made here: the program keeps nothing.

/** An .npz of columns {name: {type, shape, data}}; type is "f4", "f8" or "bool". */
export function npz(arrays) {
  return zip(Object.entries(arrays).map(([name, array]) => [`${name}.npy`, npy(array)]));
}

/** A .csv of columns {name: {values, digits}}. */
export function csv(columns) {
  const names = Object.keys(columns);
  const count = columns[names[0]].values.length;
  const rows = Array.from({ length: count }, (_, row) =>
    names.map((name) => columns[name].values[row].toFixed(columns[name].digits)).join(","));
  return [names.join(","), ...rows, ""].join("\n");
}

/** Let the browser save a blob. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function npy({ type, shape, data }) {
  const [descr, bytes] = {
    f4: ["<f4", (values) => new Float32Array(values)],
    f8: ["<f8", (values) => new Float64Array(values)],
    bool: ["|b1", (values) => new Uint8Array(values)],
  }[type];
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`;
  const header = `{'descr': '${descr}', 'fortran_order': False, 'shape': ${tuple}, }`;
  const padded = header.padEnd(Math.ceil((header.length + 11) / 64) * 64 - 11) + "\n"; // 10 bytes are before it
  const start = new Uint8Array([0x93, ...new TextEncoder().encode("NUMPY"), 1, 0, padded.length & 255, padded.length >> 8]);
  return joined([start, new TextEncoder().encode(padded), new Uint8Array(bytes(data).buffer)]);
}

function zip(files) {
  const parts = [], directory = [];
  let offset = 0;
  for (const [name, data] of files) {
    const path = new TextEncoder().encode(name);
    // version, flags, stored, time, date (1980-01-01), checksum, both sizes, length of the name, of nothing
    const common = [[20, 2], [0, 2], [0, 2], [0, 2], [33, 2], [crc32(data), 4], [data.length, 4], [data.length, 4], [path.length, 2], [0, 2]];
    const local = joined([numbers([[0x04034b50, 4], ...common]), path, data]);
    parts.push(local);
    directory.push(numbers([[0x02014b50, 4], [20, 2], ...common, [0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]]), path);
    offset += local.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = numbers([[0x06054b50, 4], [0, 2], [0, 2], [files.length, 2], [files.length, 2], [size, 4], [offset, 4], [0, 2]]);
  return joined([...parts, ...directory, end]);
}

function numbers(pairs) {
  const bytes = new DataView(new ArrayBuffer(pairs.reduce((sum, [, size]) => sum + size, 0)));
  let at = 0;
  for (const [value, size] of pairs) {
    if (size === 2) bytes.setUint16(at, value, true);
    else bytes.setUint32(at, value, true);
    at += size;
  }
  return new Uint8Array(bytes.buffer);
}

function joined(parts) {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function crc32(data) {
  let sum = ~0;
  for (const byte of data) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return ~sum >>> 0;
}
