/**
 * The safetensors file format: eight bytes of header length, a JSON header, the tensors' bytes. Reads f32, f16 and bf16 as
 * f32 and writes f32. Everything that a header claims is checked against the file before memory is taken for it.
 * Bytes in, bytes out: reads no files, and knows no tensor names.
 * Format: https://github.com/huggingface/safetensors
 */

export class SafetensorsError extends Error {
  override readonly name = 'SafetensorsError';
}

export interface NamedTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array<ArrayBuffer>;
}

type Encoding = 'F32' | 'F16' | 'BF16';

interface TensorRecord {
  readonly name: string;
  readonly encoding: Encoding;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

const bytesPerElement: Readonly<Record<Encoding, number>> = { F32: 4, F16: 2, BF16: 2 };
const lengthBytes = 8;
/** The reference implementation's limit. */
const maxHeaderBytes = 100_000_000;
const headerAlignment = 8;

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** Names, shapes and places of a file's tensors, in the order of their bytes; all claims checked. */
function readHeader(file: Uint8Array): { readonly records: readonly TensorRecord[]; readonly dataStart: number } {
  if (file.byteLength < lengthBytes) throw new SafetensorsError(`the file has ${file.byteLength} bytes, too few for a header`);
  const declared = new DataView(file.buffer, file.byteOffset, lengthBytes).getBigUint64(0, true);
  const available = file.byteLength - lengthBytes;
  if (declared > BigInt(Math.min(available, maxHeaderBytes))) {
    throw new SafetensorsError(`the header claims ${declared} bytes, and the file has ${available} left`);
  }
  const dataStart = lengthBytes + Number(declared);
  const header = parseHeader(file.subarray(lengthBytes, dataStart));
  const dataBytes = file.byteLength - dataStart;
  const records = Object.entries(header)
    .filter(([name]) => name !== '__metadata__')
    .map(([name, claim]) => checkRecord(name, claim, dataBytes))
    .sort((a, b) => a.begin - b.begin || a.end - b.end);
  let position = 0;
  for (const record of records) {
    if (record.begin !== position) {
      const what = record.begin < position ? 'overlaps the tensor before it' : 'leaves a gap before it';
      throw new SafetensorsError(`${record.name}: starts at byte ${record.begin} and ${what}`);
    }
    position = record.end;
  }
  if (position !== dataBytes) throw new SafetensorsError(`the tensors end at byte ${position} of ${dataBytes}`);
  return { records, dataStart };
}

function parseHeader(bytes: Uint8Array): Readonly<Record<string, unknown>> {
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw new SafetensorsError('the header is not valid JSON; is this a safetensors file?');
  }
  if (!isRecord(header)) throw new SafetensorsError('the header is not a JSON object');
  return header;
}

function checkRecord(name: string, claim: unknown, dataBytes: number): TensorRecord {
  if (!isRecord(claim)) throw new SafetensorsError(`${name}: its header entry is not an object`);
  const { dtype, shape, data_offsets: offsets } = claim;
  if (dtype !== 'F32' && dtype !== 'F16' && dtype !== 'BF16') {
    throw new SafetensorsError(`${name}: dtype ${JSON.stringify(dtype)} is not supported: F32, F16 and BF16 are`);
  }
  if (!Array.isArray(shape) || !shape.every(isCount)) {
    throw new SafetensorsError(`${name}: shape ${JSON.stringify(shape)} is not a list of sizes`);
  }
  const [begin, end, ...rest] = Array.isArray(offsets) ? (offsets as readonly unknown[]) : [];
  if (!isCount(begin) || !isCount(end) || rest.length > 0 || begin > end) {
    throw new SafetensorsError(`${name}: data_offsets ${JSON.stringify(offsets)} is not [begin, end]`);
  }
  if (end > dataBytes) throw new SafetensorsError(`${name}: ends at byte ${end}, and the file has ${dataBytes} bytes of data`);
  const elements = shape.reduce((product, extent) => product * extent, 1);
  const expected = elements * bytesPerElement[dtype];
  if (end - begin !== expected) {
    throw new SafetensorsError(`${name}: [${shape.join(', ')}] in ${dtype} takes ${expected} bytes, and it has ${end - begin}`);
  }
  return { name, encoding: dtype, shape, begin, end };
}

/** All tensors of a file, as f32. Throws `SafetensorsError` naming the tensor. */
export function readSafetensors(file: Uint8Array): ReadonlyMap<string, NamedTensor> {
  const { records, dataStart } = readHeader(file);
  return new Map(
    records.map(({ name, encoding, shape, begin, end }) => {
      return [name, { shape, data: toFloat32(file.subarray(dataStart + begin, dataStart + end), encoding) }];
    }),
  );
}

function toFloat32(bytes: Uint8Array, encoding: Encoding): Float32Array<ArrayBuffer> {
  // A copy: a tensor's bytes need not be aligned for a typed array. (Not `slice`, which shares memory in Node's Buffer.)
  const { buffer } = new Uint8Array(bytes);
  if (encoding === 'F32') return new Float32Array(buffer);
  const halves = new Uint16Array(buffer);
  const words = new Uint32Array(halves.length);
  for (let index = 0; index < halves.length; index++) {
    const half = halves[index] ?? 0;
    words[index] = encoding === 'BF16' ? half << 16 : float32BitsOfHalf(half);
  }
  return new Float32Array(words.buffer);
}

/** IEEE 754 binary16 bits to binary32 bits; exact for every value. */
function float32BitsOfHalf(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >>> 10) & 0x1f;
  const mantissa = half & 0x3ff;
  if (exponent === 0x1f) return (sign | 0x7f800000 | (mantissa << 13)) >>> 0;
  if (exponent !== 0) return (sign | ((exponent + 112) << 23) | (mantissa << 13)) >>> 0;
  if (mantissa === 0) return sign >>> 0;
  // Subnormal: the leading bit becomes implicit.
  const shift = Math.clz32(mantissa) - 21;
  return (sign | ((113 - shift) << 23) | ((mantissa << (13 + shift)) & 0x7fffff)) >>> 0;
}

/** A file with the tensors in f32, by name. Throws when a tensor's data does not fit its shape. */
export function writeSafetensors(tensors: ReadonlyMap<string, { readonly shape: readonly number[]; readonly data: Float32Array }>): Uint8Array<ArrayBuffer> {
  const ordered = [...tensors].sort(([a], [b]) => (a < b ? -1 : 1));
  // transformers reads only files that say which framework's layout they have.
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } };
  let dataBytes = 0;
  for (const [name, { shape, data }] of ordered) {
    const elements = shape.reduce((product, extent) => product * extent, 1);
    if (data.length !== elements) throw new SafetensorsError(`${name}: [${shape.join(', ')}] has ${elements} values, and there are ${data.length}`);
    header[name] = { dtype: 'F32', shape, data_offsets: [dataBytes, dataBytes + data.byteLength] };
    dataBytes += data.byteLength;
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const headerBytes = Math.ceil(json.length / headerAlignment) * headerAlignment;
  const file = new Uint8Array(lengthBytes + headerBytes + dataBytes);
  new DataView(file.buffer).setBigUint64(0, BigInt(headerBytes), true);
  file.fill(0x20, lengthBytes, lengthBytes + headerBytes);
  file.set(json, lengthBytes);
  let position = lengthBytes + headerBytes;
  for (const [, { data }] of ordered) {
    file.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), position);
    position += data.byteLength;
  }
  return file;
}
