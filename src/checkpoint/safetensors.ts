/**
 * The safetensors file format: eight bytes of header length, a JSON header, the tensors' bytes. Reads f32, f16, bf16
 * and u32 as f32 and writes any of them. Everything that a header claims is checked against the file before memory is taken for it.
 * Opens no files, and knows no tensor names.
 * Format: https://github.com/huggingface/safetensors
 */
import { ModelFileError, memorySource } from './bytes.ts';
import type { ByteSource } from './bytes.ts';
import { parseChecked } from './checked-json.ts';
import { bytesOf, decodeNumbers } from './number-formats.ts';
import type { NumberFormat } from './number-formats.ts';
import { elementsOf, encodeTensor } from './tensor-stream.ts';
import type { StoredTensor, WrittenTensor } from './tensor-stream.ts';

export class SafetensorsError extends ModelFileError {
  override readonly name = 'SafetensorsError';
}

export interface NamedTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array<ArrayBuffer>;
}

export interface SafetensorsFile {
  readonly source: ByteSource;
  /** By name, in the order of their bytes. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /** What the writer said about the file. */
  readonly metadata: ReadonlyMap<string, string>;
}

const formats = ['F32', 'F16', 'BF16', 'U32'] as const satisfies readonly NumberFormat[];
type Format = (typeof formats)[number];

const metadataName = '__metadata__';
const lengthBytes = 8;
/** The reference implementation's limit. */
const maxHeaderBytes = 100_000_000;
const headerAlignment = 8;
/** The header, a tensor's entry, its lists. */
const maxDepth = 3;

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** Reads the header alone. Throws `SafetensorsError` naming file and tensor. */
export async function openSafetensors(source: ByteSource): Promise<SafetensorsFile> {
  const fail = (what: string): SafetensorsError => new SafetensorsError(`${source.name}: ${what}`);
  if (source.size < lengthBytes) throw fail(`the file has ${source.size} bytes, too few for a header`);
  const first = await source.read(0, lengthBytes);
  const declared = new DataView(first.buffer).getBigUint64(0, true);
  const available = source.size - lengthBytes;
  if (declared > BigInt(Math.min(available, maxHeaderBytes))) {
    throw fail(`the header claims ${declared} bytes, and the file has ${available} left`);
  }
  const dataStart = lengthBytes + Number(declared);
  try {
    const { records, metadata } = readHeader(await source.read(lengthBytes, Number(declared)), source.size - dataStart);
    const tensors = records.map(({ name, shape, format, begin, end }): [string, StoredTensor] => [
      name,
      { name, shape, format, offset: dataStart + begin, byteLength: end - begin },
    ]);
    return { source, tensors: new Map(tensors), metadata };
  } catch (error) {
    throw error instanceof SafetensorsError ? fail(error.message) : error;
  }
}

interface TensorRecord {
  readonly name: string;
  readonly format: Format;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

/** Names, shapes and places of a file's tensors, in the order of their bytes; all claims checked. */
function readHeader(json: Uint8Array, dataBytes: number): { readonly records: readonly TensorRecord[]; readonly metadata: ReadonlyMap<string, string> } {
  const header = parseHeader(json);
  const records = Object.entries(header)
    .filter(([name]) => name !== metadataName)
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
  return { records, metadata: metadataOf(header[metadataName]) };
}

function metadataOf(claim: unknown): ReadonlyMap<string, string> {
  if (claim === undefined) return new Map();
  const entries = isRecord(claim) ? Object.entries(claim) : null;
  if (entries === null || !entries.every((entry): entry is [string, string] => typeof entry[1] === 'string')) {
    throw new SafetensorsError(`${metadataName} is not a list of texts by name`);
  }
  return new Map(entries);
}

function parseHeader(bytes: Uint8Array): Readonly<Record<string, unknown>> {
  const notJson = new SafetensorsError('the header is not valid JSON; is this a safetensors file?');
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw notJson;
  }
  const { fault, ...parsed } = parseChecked(text, maxDepth);
  if (fault?.kind === 'depth') throw new SafetensorsError(`the header nests deeper than ${fault.most}`);
  if (fault?.kind === 'twice') throw new SafetensorsError(`${fault.name} is in the header twice`);
  if (!('value' in parsed)) throw notJson;
  if (!isRecord(parsed.value)) throw new SafetensorsError('the header is not a JSON object');
  return parsed.value;
}

function checkRecord(name: string, claim: unknown, dataBytes: number): TensorRecord {
  if (!isRecord(claim)) throw new SafetensorsError(`${name}: its header entry is not an object`);
  const { dtype: given, shape, data_offsets: offsets } = claim;
  const dtype = formats.find((format) => format === given);
  if (dtype === undefined) throw new SafetensorsError(`${name}: dtype ${JSON.stringify(given)} is not supported: ${formats.join(', ')} are`);
  if (!Array.isArray(shape) || !shape.every(isCount)) {
    throw new SafetensorsError(`${name}: shape ${JSON.stringify(shape)} is not a list of sizes`);
  }
  const [begin, end, ...rest] = Array.isArray(offsets) ? (offsets as readonly unknown[]) : [];
  if (!isCount(begin) || !isCount(end) || rest.length > 0 || begin > end) {
    throw new SafetensorsError(`${name}: data_offsets ${JSON.stringify(offsets)} is not [begin, end]`);
  }
  if (end > dataBytes) throw new SafetensorsError(`${name}: ends at byte ${end}, and the file has ${dataBytes} bytes of data`);
  const expected = bytesOf(dtype, elementsOf(shape));
  if (end - begin !== expected) {
    throw new SafetensorsError(`${name}: [${shape.join(', ')}] in ${dtype} takes ${expected} bytes, and it has ${end - begin}`);
  }
  return { name, format: dtype, shape, begin, end };
}

/** All tensors of a file in memory, as f32. Throws `SafetensorsError` naming the tensor. */
export async function readSafetensors(bytes: Uint8Array, name = 'the file'): Promise<ReadonlyMap<string, NamedTensor>> {
  const { tensors } = await openSafetensors(memorySource(name, bytes));
  return new Map(
    Array.from(tensors.values(), ({ name, shape, format, offset, byteLength }) => {
      return [name, { shape, data: decodeNumbers(bytes.subarray(offset, offset + byteLength), format) }];
    }),
  );
}

/** The whole file's size, and its bytes in order, encoded as they are asked for. `metadata` is said in the header. */
export function safetensorsStream(
  tensors: readonly WrittenTensor[],
  metadata: Readonly<Record<string, string>> = {},
): { readonly size: number; readonly chunks: () => Generator<Uint8Array<ArrayBuffer>> } {
  const ordered = [...tensors].sort((a, b) => (a.name < b.name ? -1 : 1));
  // transformers reads only files that say which framework's layout they have.
  const header: Record<string, unknown> = { [metadataName]: { format: 'pt', ...metadata } };
  let dataBytes = 0;
  for (const { name, shape, format, values } of ordered) {
    const elements = elementsOf(shape);
    if (values.length !== elements) throw new SafetensorsError(`${name}: [${shape.join(', ')}] has ${elements} values, and there are ${values.length}`);
    const end = dataBytes + bytesOf(format, elements);
    header[name] = { dtype: format, shape, data_offsets: [dataBytes, end] };
    dataBytes = end;
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const headerBytes = Math.ceil(json.length / headerAlignment) * headerAlignment;
  return {
    size: lengthBytes + headerBytes + dataBytes,
    *chunks() {
      const head = new Uint8Array(lengthBytes + headerBytes).fill(0x20);
      new DataView(head.buffer).setBigUint64(0, BigInt(headerBytes), true);
      head.set(json, lengthBytes);
      yield head;
      for (const tensor of ordered) yield* encodeTensor(tensor);
    },
  };
}

/** A file with the tensors in f32, by name. Throws when a tensor's data does not fit its shape. */
export function writeSafetensors(tensors: ReadonlyMap<string, { readonly shape: readonly number[]; readonly data: Float32Array }>): Uint8Array<ArrayBuffer> {
  const { size, chunks } = safetensorsStream(Array.from(tensors, ([name, { shape, data }]) => ({ name, shape, format: 'F32', values: data })));
  const file = new Uint8Array(size);
  let position = 0;
  for (const chunk of chunks()) {
    file.set(chunk, position);
    position += chunk.length;
  }
  return file;
}
