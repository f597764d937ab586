/**
 * The GGUF file format, version 3: metadata by key, the tensors' names and places, their bytes, little-endian. Reads and writes
 * the container; which keys and tensors a model has is said in `src/model/gguf.ts`. Whatever a header claims is checked against
 * the file before memory is taken for it.
 * Format: ggml's docs/gguf.md
 */
import { ModelFileError } from './bytes.ts';
import type { ByteSource } from './bytes.ts';
import { ByteWriter, GgufCursor } from './gguf-bytes.ts';
import { bytesOf, fitsRows } from './number-formats.ts';
import type { NumberFormat } from './number-formats.ts';
import { elementsOf, encodeTensor } from './tensor-stream.ts';
import type { StoredTensor, WrittenTensor } from './tensor-stream.ts';

export class GgufError extends ModelFileError {
  override readonly name = 'GgufError';
}

/** A value that is written, with the type it is written as. */
export type GgufValue =
  | { readonly type: 'u32' | 'f32'; readonly value: number }
  | { readonly type: 'bool'; readonly value: boolean }
  | { readonly type: 'string'; readonly value: string }
  | { readonly type: 'strings'; readonly value: readonly string[] }
  | { readonly type: 'i32s'; readonly value: readonly number[] };

/** A value that was read; numbers of every type are numbers. */
export type GgufRead = number | boolean | string | readonly GgufRead[];

export interface GgufFile {
  readonly source: ByteSource;
  readonly metadata: ReadonlyMap<string, GgufRead>;
  /** Shapes are row-major, the slowest dimension first (the file has them the other way round). */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
}

const magic = 0x46554747;
const writtenVersion = 3;
/** Version 2 has the same layout; version 1 counted in 32 bits and is long gone. */
const readVersions: readonly number[] = [2, 3];
const defaultAlignment = 32;
const alignmentKey = 'general.alignment';

/** ggml's numbers of the formats that are read and written here. */
const tensorTypes: ReadonlyMap<NumberFormat, number> = new Map([['F32', 0], ['F16', 1], ['Q8_0', 8], ['BF16', 30]]);

/** Of ggml's other formats, for messages. */
const otherTypes: ReadonlyMap<number, string> = new Map([
  [2, 'Q4_0'], [3, 'Q4_1'], [6, 'Q5_0'], [7, 'Q5_1'], [9, 'Q8_1'], [10, 'Q2_K'], [11, 'Q3_K'], [12, 'Q4_K'], [13, 'Q5_K'], [14, 'Q6_K'], [15, 'Q8_K'],
  [16, 'IQ2_XXS'], [17, 'IQ2_XS'], [18, 'IQ3_XXS'], [19, 'IQ1_S'], [20, 'IQ4_NL'], [21, 'IQ3_S'], [22, 'IQ2_S'], [23, 'IQ4_XS'], [28, 'F64'], [39, 'MXFP4'],
]);

const valueTypes = { u32: 4, f32: 6, bool: 7, string: 8 } as const;
const arrayType = 9;
const i32Type = 5;

/** ggml has at most four dimensions. */
const maxDimensions = 4;
/** Key, type and value, or name, dimensions, type and offset: no entry takes less. */
const leastMetadataBytes = 13;
const leastTensorBytes = 24;
/** Arrays in arrays; no model has any. */
const maxArrayDepth = 4;

/** Past what any model has: a vocabulary of a million tokens, of ten thousand layers. */
const most = { metadata: 2 ** 14, tensors: 2 ** 18, values: 2 ** 22 } as const;

/** Bytes of one value of each type, by the type's number; strings and arrays take at least their lengths. */
const leastValueBytes: readonly number[] = [1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8];

/** Reads metadata and the tensors' places. Throws `GgufError` naming the file and the key or tensor. */
export async function openGguf(source: ByteSource): Promise<GgufFile> {
  const fail = (what: string): GgufError => new GgufError(`${source.name}: ${what}`);
  const cursor = new GgufCursor(source, fail);
  if (source.size < 24 || (await cursor.u32()) !== magic) throw fail('is not a GGUF file');
  const version = await cursor.u32();
  if (!readVersions.includes(version)) throw fail(`GGUF version ${version} is not supported: 2 and 3 are${version > 0xffff ? ' (is the file big-endian?)' : ''}`);
  const tensorCount = await cursor.u64('the number of tensors');
  const metadataCount = await cursor.u64('the number of metadata entries');
  if (tensorCount > most.tensors || metadataCount > most.metadata) throw fail(`claims ${tensorCount} tensors and ${metadataCount} metadata entries, more than any model has`);
  if (tensorCount * leastTensorBytes + metadataCount * leastMetadataBytes > source.size) {
    throw fail(`claims ${tensorCount} tensors and ${metadataCount} metadata entries, for which ${source.size} bytes are too few`);
  }
  const metadata = new Map<string, GgufRead>();
  for (let entry = 0; entry < metadataCount; entry++) {
    const key = await cursor.string(`the key of metadata entry ${entry}`);
    if (metadata.has(key)) throw fail(`${key} is there twice`);
    metadata.set(key, await readValue(cursor, await cursor.u32(), key, fail));
  }
  const claims: TensorClaim[] = [];
  for (let tensor = 0; tensor < tensorCount; tensor++) claims.push(await readClaim(cursor, tensor, fail));
  return { source, metadata, tensors: placedTensors(source, claims, cursor.position, alignmentOf(metadata, fail), fail) };
}

type Fail = (what: string) => GgufError;

async function readValue(cursor: GgufCursor, type: number, key: string, fail: Fail, depth = 0): Promise<GgufRead> {
  switch (type) {
    case 0:
    case 7: {
      const value = await cursor.u8();
      if (type === 7 && value > 1) throw fail(`${key} is neither true nor false`);
      return type === 7 ? value === 1 : value;
    }
    case 1:
      return cursor.number(1, (view) => view.getInt8(0));
    case 2:
      return cursor.number(2, (view) => view.getUint16(0, true));
    case 3:
      return cursor.number(2, (view) => view.getInt16(0, true));
    case 4:
      return cursor.u32();
    case 5:
      return cursor.number(4, (view) => view.getInt32(0, true));
    case 6:
      return cursor.number(4, (view) => view.getFloat32(0, true));
    case 8:
      return cursor.string(key);
    case 9: {
      const [elementType, count] = [await cursor.u32(), await cursor.u64(`the length of ${key}`)];
      const least = leastValueBytes[elementType];
      if (least === undefined) throw fail(`${key} is a list of an unknown type, ${elementType}`);
      if (depth >= maxArrayDepth) throw fail(`${key} nests deeper than ${maxArrayDepth}`);
      if (count * least > cursor.bytesLeft) throw fail(`${key} claims ${count} values, and the file has ${cursor.bytesLeft} bytes left`);
      if (count > most.values) throw fail(`${key} claims ${count} values, more than any model has`);
      const values: GgufRead[] = [];
      for (let index = 0; index < count; index++) values.push(await readValue(cursor, elementType, key, fail, depth + 1));
      return values;
    }
    case 10:
      return cursor.number(8, (view) => Number(view.getBigUint64(0, true)));
    case 11:
      return cursor.number(8, (view) => Number(view.getBigInt64(0, true)));
    case 12:
      return cursor.number(8, (view) => view.getFloat64(0, true));
    default:
      throw fail(`${key} has an unknown type, ${type}`);
  }
}

interface TensorClaim extends Omit<StoredTensor, 'offset'> {
  /** From where the data begins. */
  readonly begin: number;
}

async function readClaim(cursor: GgufCursor, index: number, fail: Fail): Promise<TensorClaim> {
  const name = await cursor.string(`the name of tensor ${index}`);
  const dimensions = await cursor.u32();
  if (dimensions < 1 || dimensions > maxDimensions) throw fail(`${name} has ${dimensions} dimensions: 1 to ${maxDimensions} are possible`);
  const shape: number[] = [];
  for (let axis = 0; axis < dimensions; axis++) shape.unshift(await cursor.u64(`a size of ${name}`));
  const type = await cursor.u32();
  const begin = await cursor.u64(`the offset of ${name}`);
  const format = [...tensorTypes].find(([, number]) => number === type)?.[0];
  if (format === undefined) throw fail(`${name} is stored as ${otherTypes.get(type) ?? `type ${type}`}, which is not supported: F32, F16, BF16 and Q8_0 are`);
  const elements = elementsOf(shape);
  if (!Number.isSafeInteger(elements)) throw fail(`${name} is [${shape.join(', ')}], which no file can hold`);
  if (!fitsRows(format, shape.at(-1) ?? 0)) throw fail(`${name} is [${shape.join(', ')}], whose rows are not whole blocks of ${format}`);
  return { name, shape, format, begin, byteLength: bytesOf(format, elements) };
}

function alignmentOf(metadata: ReadonlyMap<string, GgufRead>, fail: Fail): number {
  const alignment = metadata.get(alignmentKey) ?? defaultAlignment;
  if (typeof alignment !== 'number' || !Number.isInteger(alignment) || alignment < 8 || alignment % 8 !== 0 || alignment > 2 ** 20) {
    throw fail(`${alignmentKey} is ${String(alignment)}, not a multiple of 8`);
  }
  return alignment;
}

function aligned(offset: number, alignment: number): number {
  return Math.ceil(offset / alignment) * alignment;
}

function placedTensors(source: ByteSource, claims: readonly TensorClaim[], headerEnd: number, alignment: number, fail: Fail): ReadonlyMap<string, StoredTensor> {
  const dataStart = aligned(headerEnd, alignment);
  const tensors = new Map<string, StoredTensor>();
  let position = 0;
  for (const { begin, ...tensor } of claims.toSorted((a, b) => a.begin - b.begin)) {
    const { name, byteLength } = tensor;
    if (tensors.has(name)) throw fail(`the tensor ${name} is there twice`);
    if (begin % alignment !== 0) throw fail(`${name} begins at byte ${begin}, which is no multiple of ${alignment}`);
    if (begin !== position) throw fail(`${name} begins at byte ${begin} and ${begin < position ? 'overlaps the tensor before it' : 'leaves a gap before it'}`);
    if (dataStart + begin + byteLength > source.size) throw fail(`${name} ends at byte ${dataStart + begin + byteLength}, and the file has ${source.size}`);
    tensors.set(name, { ...tensor, offset: dataStart + begin });
    position = aligned(begin + byteLength, alignment);
  }
  return tensors;
}

/** The whole file's size, and its bytes in order, encoded as they are asked for. */
export function ggufStream(
  metadata: readonly (readonly [key: string, value: GgufValue])[],
  tensors: readonly WrittenTensor[],
): { readonly size: number; readonly chunks: () => Generator<Uint8Array<ArrayBuffer>> } {
  const header = new ByteWriter();
  header.u32(magic);
  header.u32(writtenVersion);
  header.u64(tensors.length);
  header.u64(metadata.length);
  for (const [key, value] of metadata) {
    header.string(key);
    writeValue(header, value);
  }
  let dataBytes = 0;
  for (const { name, shape, format } of tensors) {
    header.string(name);
    header.u32(shape.length);
    for (const extent of shape.toReversed()) header.u64(extent);
    header.u32(tensorTypes.get(format) ?? 0);
    header.u64(dataBytes);
    dataBytes = aligned(dataBytes + bytesOf(format, elementsOf(shape)), defaultAlignment);
  }
  const head = header.bytes(defaultAlignment);
  return {
    size: head.length + dataBytes,
    *chunks() {
      yield head;
      for (const tensor of tensors) {
        const { format, shape } = tensor;
        const bytes = bytesOf(format, elementsOf(shape));
        yield* encodeTensor(tensor);
        if (bytes % defaultAlignment !== 0) yield new Uint8Array(aligned(bytes, defaultAlignment) - bytes);
      }
    },
  };
}

function writeValue(header: ByteWriter, value: GgufValue): void {
  switch (value.type) {
    case 'u32':
      header.u32(valueTypes.u32);
      return header.u32(value.value);
    case 'f32':
      header.u32(valueTypes.f32);
      return header.f32(value.value);
    case 'bool':
      header.u32(valueTypes.bool);
      return header.u8(value.value ? 1 : 0);
    case 'string':
      header.u32(valueTypes.string);
      return header.string(value.value);
    case 'strings':
      header.u32(arrayType);
      header.u32(valueTypes.string);
      header.u64(value.value.length);
      for (const text of value.value) header.string(text);
      return;
    case 'i32s':
      header.u32(arrayType);
      header.u32(i32Type);
      header.u64(value.value.length);
      for (const number of value.value) header.u32(number);
  }
}
