/** Reads the golden files: see make_golden.py for what is in them. */
import { readFileSync } from 'node:fs';

export interface Packed {
  readonly shape: readonly number[];
  readonly f32?: string;
  readonly u32?: string;
}

export type PackedTensors = Readonly<Record<string, Packed>>;

export interface OpCase {
  readonly op: string;
  readonly attrs: Readonly<Record<string, number>>;
  readonly inputs: PackedTensors;
  readonly output: Packed;
  readonly cotangent: Packed;
  readonly gradients: PackedTensors;
}

export interface ModelCase {
  readonly config: { readonly model_type: string };
  readonly weights: PackedTensors;
  readonly ids: Packed;
  readonly targets: Packed;
  readonly lossWeights: Packed;
  readonly lossSum: number;
  readonly logits: Packed;
  readonly gradients: PackedTensors;
}

export interface TracePoint {
  readonly step: number;
  readonly loss: number;
  readonly gradNorm: number;
  readonly lr: number;
}

/** Over rows that score some of their tokens, and some more than others. */
export interface MaskedTrace {
  readonly config: { readonly model_type: string };
  readonly run: { readonly steps: number; readonly frozen?: { readonly embeddings: boolean; readonly layers: number } };
  readonly rows: readonly { readonly input_ids: readonly number[] }[];
  readonly initial: PackedTensors;
  readonly trace: readonly TracePoint[];
  readonly final: PackedTensors;
}

export interface TrainingTrace extends MaskedTrace {
  readonly gradientsAtStep: number;
  readonly gradients: PackedTensors;
}

const supportedVersion = 1;

function read(name: string): { readonly version: number } {
  const json = JSON.parse(readFileSync(new URL(`${name}.json`, import.meta.url), 'utf8')) as { version: number };
  if (json.version !== supportedVersion) throw new Error(`${name}.json has version ${json.version}; make it again`);
  return json;
}

export function readOpCases(): readonly OpCase[] {
  return (read('ops') as unknown as { cases: OpCase[] }).cases;
}

export function readModelCases(): readonly ModelCase[] {
  return (read('models') as unknown as { models: ModelCase[] }).models;
}

export function readTrace(name: 'llama' | 'qwen3'): TrainingTrace {
  return read(`trace-${name}`) as unknown as TrainingTrace;
}

export function readMaskedTrace(name: 'masked' | 'smoothed' | 'frozen'): MaskedTrace {
  return read(`trace-${name}`) as unknown as MaskedTrace;
}

function bytesOf(base64: string): ArrayBuffer {
  return new Uint8Array(Buffer.from(base64, 'base64')).buffer;
}

export function floats(packed: Packed): Float32Array<ArrayBuffer> {
  if (packed.f32 === undefined) throw new Error('not a tensor of f32');
  return new Float32Array(bytesOf(packed.f32));
}

export function integers(packed: Packed): Uint32Array<ArrayBuffer> {
  if (packed.u32 === undefined) throw new Error('not a tensor of u32');
  return new Uint32Array(bytesOf(packed.u32));
}

export function namedTensors(packed: PackedTensors): Map<string, { shape: readonly number[]; data: Float32Array<ArrayBuffer> }> {
  return new Map(Object.entries(packed).map(([name, tensor]) => [name, { shape: tensor.shape, data: floats(tensor) }]));
}

/** |measured − right| / |right| in the Euclidean norm. */
export function relativeError(measured: ArrayLike<number>, right: ArrayLike<number>): number {
  if (measured.length !== right.length) return Number.POSITIVE_INFINITY;
  let difference = 0;
  let size = 0;
  for (let index = 0; index < right.length; index++) {
    difference += ((measured[index] ?? Number.NaN) - (right[index] ?? 0)) ** 2;
    size += (right[index] ?? 0) ** 2;
  }
  return Math.sqrt(difference) / Math.max(Math.sqrt(size), Number.MIN_VALUE);
}

