/**
 * Named tensors of a Hugging Face folder ⇄ the flat buffer of weights. Checks that names and shapes are the layout's;
 * reads no files.
 */
import type { ParameterLayout } from '../engine/layout.ts';
import { SafetensorsError } from './safetensors.ts';
import type { NamedTensor } from './safetensors.ts';

/** Tensors that some writers add and that hold nothing of their own: rotary tables, and the head of a tied model. */
function isRedundant(name: string): boolean {
  return name.endsWith('rotary_emb.inv_freq') || name === 'lm_head.weight';
}

const namesInMessage = 3;

function listNames(names: readonly string[]): string {
  const shown = names.slice(0, namesInMessage).join(', ');
  return names.length > namesInMessage ? `${shown} and ${names.length - namesInMessage} more` : shown;
}

/** Weights by the layout, padding zero. Throws `SafetensorsError` naming what is missing, unknown or of another shape. */
export function flatFromTensors(layout: ParameterLayout, tensors: ReadonlyMap<string, NamedTensor>): Float32Array<ArrayBuffer> {
  const missing = layout.entries.filter(({ name }) => !tensors.has(name)).map(({ name }) => name);
  if (missing.length > 0) throw new SafetensorsError(`the weights lack ${listNames(missing)}`);
  const unknown = [...tensors.keys()].filter((name) => !layout.byName.has(name) && !isRedundant(name));
  if (unknown.length > 0) throw new SafetensorsError(`the config's model has no ${listNames(unknown)}`);
  const flat = new Float32Array(layout.totalElements);
  for (const { name, shape, offsetElements } of layout.entries) {
    const tensor = tensors.get(name);
    if (tensor === undefined) continue;
    if (tensor.shape.length !== shape.length || tensor.shape.some((extent, axis) => extent !== shape[axis])) {
      throw new SafetensorsError(`${name} is [${tensor.shape.join(', ')}], and the config asks for [${shape.join(', ')}]`);
    }
    flat.set(tensor.data, offsetElements);
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
