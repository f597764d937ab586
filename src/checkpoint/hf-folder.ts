/**
 * Named tensors of a Hugging Face folder ⇄ the flat buffer of weights. Checks that names and shapes are the layout's before
 * memory is taken for the weights; opens no files.
 */
import type { LayoutEntry, ParameterLayout } from '../engine/layout.ts';
import { ModelFileError, readJsonFile } from './bytes.ts';
import type { ByteSource } from './bytes.ts';
import { openSafetensors, SafetensorsError } from './safetensors.ts';
import type { NamedTensor } from './safetensors.ts';
import { readTensor } from './tensor-stream.ts';
import type { StoredTensor } from './tensor-stream.ts';

/** The files of a folder or an archive, by their paths in it. */
export type FileSet = ReadonlyMap<string, ByteSource>;

/** A tensor, and the file that it lies in. */
export interface PlacedTensor extends StoredTensor {
  readonly source: ByteSource;
}

export const weightsFile = 'model.safetensors';
export const indexFile = `${weightsFile}.index.json`;

/** Tensors that some writers add and that hold nothing of their own: rotary tables, and the head of a tied model. */
function isRedundant(name: string): boolean {
  return name.endsWith('rotary_emb.inv_freq') || name === 'lm_head.weight';
}

const namesInMessage = 3;

function listNames(names: readonly string[]): string {
  const shown = names.slice(0, namesInMessage).join(', ');
  return names.length > namesInMessage ? `${shown} and ${names.length - namesInMessage} more` : shown;
}

type Shaped = { readonly shape: readonly number[] };

/** The tensor of each entry. Throws `SafetensorsError` naming what is missing, unknown or of another shape. */
export function matched<T extends Shaped>(layout: ParameterLayout, tensors: ReadonlyMap<string, T>): readonly (readonly [LayoutEntry, T])[] {
  const missing = layout.entries.filter(({ name }) => !tensors.has(name)).map(({ name }) => name);
  if (missing.length > 0) throw new SafetensorsError(`the weights lack ${listNames(missing)}`);
  const unknown = [...tensors.keys()].filter((name) => !layout.byName.has(name) && !isRedundant(name));
  if (unknown.length > 0) throw new SafetensorsError(`the config's model has no ${listNames(unknown)}`);
  return layout.entries.flatMap((entry) => {
    const tensor = tensors.get(entry.name);
    if (tensor === undefined) return [];
    const { name, shape } = entry;
    if (tensor.shape.length !== shape.length || tensor.shape.some((extent, axis) => extent !== shape[axis])) {
      throw new SafetensorsError(`${name} is [${tensor.shape.join(', ')}], and the config asks for [${shape.join(', ')}]`);
    }
    return [[entry, tensor] as const];
  });
}

/** Weights by the layout, padding zero. Throws `SafetensorsError` like `matched`. */
export function flatFromTensors(layout: ParameterLayout, tensors: ReadonlyMap<string, NamedTensor>): Float32Array<ArrayBuffer> {
  const pairs = matched(layout, tensors);
  const flat = new Float32Array(layout.totalElements);
  for (const [{ offsetElements }, { data }] of pairs) flat.set(data, offsetElements);
  return flat;
}

export interface ReadOptions {
  /** Numbers read so far, of the layout's. */
  readonly onProgress?: (elements: number) => void;
  readonly signal?: AbortSignal | undefined;
}

/** The same of tensors in files, one after another into place. `arrange` changes a tensor in place that its file has otherwise. */
export async function readFlat(
  layout: ParameterLayout,
  tensors: ReadonlyMap<string, PlacedTensor>,
  { onProgress, signal }: ReadOptions = {},
  arrange?: (name: string, values: Float32Array) => void,
): Promise<Float32Array<ArrayBuffer>> {
  const pairs = matched(layout, tensors);
  const flat = new Float32Array(layout.totalElements);
  let elements = 0;
  for (const [{ name, offsetElements, lengthElements }, tensor] of pairs) {
    const target = flat.subarray(offsetElements, offsetElements + lengthElements);
    await readTensor(tensor.source, tensor, target, signal);
    arrange?.(name, target);
    elements += lengthElements;
    onProgress?.(elements);
  }
  return flat;
}

/** Views into `flat`, by name. */
export function tensorsFromFlat(layout: ParameterLayout, flat: Float32Array<ArrayBuffer>): Map<string, NamedTensor> {
  return new Map(
    layout.entries.map(({ name, shape, offsetElements, lengthElements }) => [
      name,
      { shape, data: flat.subarray(offsetElements, offsetElements + lengthElements) },
    ]),
  );
}

/** Tensors of the folder's one file of weights, or of all those that its index names; null where it has none. Reads headers only. */
export async function openFolderWeights(files: FileSet): Promise<ReadonlyMap<string, PlacedTensor> | null> {
  const single = files.get(weightsFile);
  if (single !== undefined) return placed(single);
  const index = files.get(indexFile);
  if (index === undefined) return null;
  const places = await readIndex(index);
  const tensors = new Map<string, PlacedTensor>();
  const shards = [...new Set(places.values())].map((file) => [file, files.get(file)] as const);
  const [absent] = shards.filter(([, source]) => source === undefined);
  if (absent !== undefined) throw new ModelFileError(`${index.name}: names ${absent[0]}, which is not there`);
  for (const [file, source] of shards) {
    if (source === undefined) continue;
    for (const [name, tensor] of await placed(source)) {
      if (places.get(name) !== file) throw new ModelFileError(`${source.name}: has ${name}, which ${indexFile} ${places.has(name) ? `places in ${places.get(name) ?? ''}` : 'does not name'}`);
      tensors.set(name, tensor);
    }
  }
  const missing = [...places.keys()].filter((name) => !tensors.has(name));
  if (missing.length > 0) throw new ModelFileError(`${index.name}: places ${listNames(missing)} in files that do not have them`);
  return tensors;
}

async function placed(source: ByteSource): Promise<ReadonlyMap<string, PlacedTensor>> {
  const { tensors } = await openSafetensors(source);
  return new Map(Array.from(tensors, ([name, tensor]) => [name, { ...tensor, source }]));
}

/** Tensor name → file name, of `model.safetensors.index.json`. */
async function readIndex(source: ByteSource): Promise<ReadonlyMap<string, string>> {
  const json = await readJsonFile(source);
  const map = typeof json === 'object' && json !== null && 'weight_map' in json ? json.weight_map : null;
  const entries = typeof map === 'object' && map !== null && !Array.isArray(map) ? Object.entries(map) : [];
  if (entries.length === 0 || !entries.every((entry): entry is [string, string] => typeof entry[1] === 'string')) {
    throw new ModelFileError(`${source.name}: has no weight_map of file names by tensor`);
  }
  return new Map(entries);
}
