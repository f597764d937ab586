/**
 * A run as one file for people: a safetensors file whose tensors are the model's, under Hugging Face's names, then the optimizer's
 * under `cotrain.<part>/<name>` and the corpus as `cotrain.corpus`; its metadata has the rest as JSON. So any reader of safetensors
 * finds the weights, and nothing of it needs a second reader here. What the run's description means is the session's to check.
 *
 *   cotrain.version     "1"; a reader refuses any other
 *   cotrain.config      the model, as a config.json
 *   cotrain.name        of the run
 *   cotrain.tokenizer   {"tokenizer": tokenizer.json, "config": tokenizer_config.json}; where it is known
 *   cotrain.run         title, settings and rules, as a browser keeps them (RunFacts); of a page's run
 *   cotrain.checkpoint  step, term, loss and history (CheckpointFacts); where there was training
 */
import * as v from 'valibot';
import { ModelFileError } from '../../checkpoint/bytes.ts';
import type { ByteSource } from '../../checkpoint/bytes.ts';
import { readFlat } from '../../checkpoint/hf-folder.ts';
import type { PlacedTensor, ReadOptions } from '../../checkpoint/hf-folder.ts';
import { openSafetensors, safetensorsStream } from '../../checkpoint/safetensors.ts';
import { elementsOf, readTensor } from '../../checkpoint/tensor-stream.ts';
import type { WrittenTensor } from '../../checkpoint/tensor-stream.ts';
import type { CheckpointFacts, MasterState, RunRecord } from '../../checkpoint/types.ts';
import type { TokenizerFiles } from '../../data/tokenizer-files.ts';
import type { ParameterLayout } from '../../engine/layout.ts';
import { parseConfig, toHuggingFaceConfig } from '../../model/config.ts';
import { parameterLayoutOf } from '../../model/parameters.ts';
import type { DecoderConfig } from '../../model/types.ts';
import { checkTokenizer } from './hugging-face-model.ts';
import type { ModelParts, OutputFile } from './types.ts';

const version = '1';
const key = (name: string): string => `cotrain.${name}`;
const corpusName = key('corpus');
const stateParts = ['firstMoments', 'secondMoments', 'masterWeights'] as const;
type StatePart = (typeof stateParts)[number];

/** Of a run that a browser keeps: all but where it was and what it learns from. */
export type RunFacts = Pick<RunRecord, 'title' | 'run' | 'steps' | 'createdAtMs' | 'name' | 'rules'>;
export type SavedFacts = Omit<CheckpointFacts, 'room'>;

/** The optimizer's buffers by the model's layout; those that the run has. */
export type OptimizerState = Readonly<Partial<Record<StatePart, ArrayBuffer>>>;

export interface RunParts extends ModelParts {
  readonly facts: RunFacts | null;
  readonly checkpoint: SavedFacts | null;
  /** Empty: only the weights are taken along. */
  readonly optimizer: OptimizerState;
  readonly corpus: Uint32Array | null;
}

export function runFileOutput(run: RunParts, path: string): OutputFile {
  const { name, config, weights, tokenizer, facts, checkpoint, optimizer, corpus } = run;
  const layout = parameterLayoutOf(config);
  const tensors = [
    ...tensorsOf(layout, weights, ''),
    ...stateParts.flatMap((part) => {
      const buffer = optimizer[part];
      return buffer === undefined || buffer.byteLength === 0 ? [] : tensorsOf(layout, new Float32Array(buffer), `${key(part)}/`);
    }),
    ...(corpus === null ? [] : [{ name: corpusName, shape: [corpus.length], format: 'U32', values: Float32Array.from(corpus) } as const]),
  ];
  const metadata = {
    [key('version')]: version,
    [key('config')]: JSON.stringify(toHuggingFaceConfig(config)),
    [key('name')]: name,
    ...(tokenizer === null ? {} : { [key('tokenizer')]: JSON.stringify(tokenizer) }),
    ...(facts === null ? {} : { [key('run')]: JSON.stringify(facts) }),
    ...(checkpoint === null ? {} : { [key('checkpoint')]: JSON.stringify(checkpoint) }),
  };
  return { path, ...safetensorsStream(tensors, metadata) };
}

function tensorsOf(layout: ParameterLayout, flat: Float32Array, prefix: string): WrittenTensor[] {
  return layout.entries.map(({ name, shape, offsetElements, lengthElements }) => ({
    name: `${prefix}${name}`,
    shape,
    format: 'F32',
    values: flat.subarray(offsetElements, offsetElements + lengthElements),
  }));
}

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const factsSchema = v.object({
  title: v.pipe(v.string(), v.maxLength(120)),
  run: v.string(),
  steps: v.pipe(count, v.minValue(1)),
  createdAtMs: count,
  name: v.pipe(v.string(), v.maxLength(200)),
  rules: v.exactOptional(v.string()),
});
const checkpointSchema = v.object({
  term: count,
  step: count,
  savedAtMs: count,
  startedAtMs: v.pipe(v.number(), v.finite()),
  loss: v.nullable(v.number()),
  history: v.string(),
});
const tokenizerSchema = v.object({ tokenizer: v.looseObject({}), config: v.looseObject({}) });

export interface OpenedRun {
  readonly facts: RunFacts | null;
  readonly checkpoint: SavedFacts | null;
  /** The optimizer's state as it was; null where the file has weights alone. */
  readonly readState: ((options?: ReadOptions) => Promise<MasterState>) | null;
  /** Null where the file has no corpus. */
  readonly readCorpus: (() => Promise<Uint32Array<ArrayBuffer>>) | null;
}

export interface OpenedRunFile extends OpenedRun {
  readonly model: {
    readonly name: string;
    readonly config: DecoderConfig;
    readonly tokenizer: TokenizerFiles | null;
    readonly readWeights: (options?: ReadOptions) => Promise<Float32Array<ArrayBuffer>>;
  };
}

/** Reads the header. Throws `ModelFileError` naming the file and what is wrong with it, `ConfigError` for the model's configuration. */
export async function openRunFile(source: ByteSource): Promise<OpenedRunFile> {
  const fail = (what: string): ModelFileError => new ModelFileError(`${source.name}: ${what}`);
  const { tensors, metadata } = await openSafetensors(source);
  const given = metadata.get(key('version'));
  if (given === undefined) throw fail('has tensors and nothing that says what model they are of; its folder’s config.json does');
  if (given !== version) throw fail(`is a run file of version ${given}; this Cotrain reads version ${version}`);
  const read = <T>(name: string, schema: v.GenericSchema<unknown, T>): T | null => {
    const text = metadata.get(key(name));
    if (text === undefined) return null;
    const parsed = v.safeParse(schema, parsedJson(text));
    if (!parsed.success) throw fail(`${key(name)} is damaged: ${v.getDotPath(parsed.issues[0]) ?? 'it'} is wrong`);
    return parsed.output;
  };
  const config = parseConfig(parsedJson(metadata.get(key('config')) ?? ''));
  const layout = parameterLayoutOf(config);
  const sorted = sortedTensors(tensors, source);
  const corpus = tensors.get(corpusName);
  const tokenizer = read('tokenizer', tokenizerSchema);
  if (tokenizer !== null) checkTokenizer(tokenizer, config);
  const checkpoint = read('checkpoint', checkpointSchema);
  const moments = stateParts.filter((part) => sorted.has(part));
  return {
    model: { name: metadata.get(key('name')) ?? 'run', config, tokenizer, readWeights: (options) => readFlat(layout, sorted.get('weights') ?? new Map(), options) },
    facts: read('run', factsSchema),
    checkpoint,
    readState:
      checkpoint === null || moments.length === 0
        ? null
        : async (options) => {
            const buffers = new Map<string, ArrayBuffer>();
            for (const part of ['weights', ...moments]) buffers.set(part, (await readFlat(layout, sorted.get(part) ?? new Map(), options)).buffer);
            const none = new ArrayBuffer(0);
            return { step: checkpoint.step, weights: none, firstMoments: none, secondMoments: none, ...Object.fromEntries(buffers) };
          },
    readCorpus:
      corpus === undefined
        ? null
        : async () => {
            const values = new Float32Array(elementsOf(corpus.shape));
            await readTensor(source, corpus, values);
            return Uint32Array.from(values);
          },
  };
}

/** Tensors by the buffer that they are a part of, under the model's names. */
function sortedTensors(tensors: ReadonlyMap<string, Omit<PlacedTensor, 'source'>>, source: ByteSource): ReadonlyMap<string, ReadonlyMap<string, PlacedTensor>> {
  const sorted = new Map<string, Map<string, PlacedTensor>>();
  for (const [name, tensor] of tensors) {
    if (name === corpusName) continue;
    const part = stateParts.find((known) => name.startsWith(`${key(known)}/`)) ?? null;
    const ofPart = sorted.get(part ?? 'weights') ?? new Map<string, PlacedTensor>();
    sorted.set(part ?? 'weights', ofPart);
    ofPart.set(part === null ? name : name.slice(key(part).length + 1), { ...tensor, source });
  }
  return sorted;
}

function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
