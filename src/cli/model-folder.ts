/** Hugging Face folders on disk: reads what a run starts from, writes what it ends with. */
import { existsSync, statSync } from 'node:fs';
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { openFolderWeights, readFlat, tensorsFromFlat, weightsFile } from '../checkpoint/hf-folder.ts';
import { writeSafetensors } from '../checkpoint/safetensors.ts';
import { toHuggingFaceConfig } from '../model/config.ts';
import { parameterLayoutOf } from '../model/parameters.ts';
import type { DecoderConfig } from '../model/types.ts';
import { CliError } from './errors.ts';
import { withFiles } from './node-files.ts';

export const tokenizerFile = 'tokenizer.json';
export const tokenizerConfigFile = 'tokenizer_config.json';
const configFile = 'config.json';
/** Belong to a tokenizer and travel with it. */
const tokenizerFiles = [tokenizerFile, tokenizerConfigFile, 'special_tokens_map.json', 'generation_config.json'];

export interface ModelSource {
  /** Null when the run file holds the config itself. */
  readonly folder: string | null;
  /** Parsed JSON of the config. */
  readonly config: unknown;
}

export async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new CliError(readFailure(path, error));
  }
}

function readFailure(path: string, error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : null;
  if (code === 'ENOENT') return `${path} does not exist`;
  if (code === 'EISDIR') return `${path} is a folder, not a file`;
  return `${path} can't be read: ${error instanceof Error ? error.message : String(error)}`;
}

export async function readJson(path: string): Promise<unknown> {
  const text = await readText(path);
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new CliError(`${path} is not valid JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** `option` is --model's value and wins; `inRun` is the run file's `model`. */
export async function findModel(
  option: string | null,
  inRun: string | Readonly<Record<string, unknown>> | null,
  runPath: string,
): Promise<ModelSource> {
  const model = option ?? inRun;
  if (model === null) throw new CliError(`no model: give --model DIR, or “model” in ${runPath}`);
  if (typeof model !== 'string') return { folder: null, config: model };
  // A path on the command line means the working folder's; one in a run file may mean the run file's.
  const candidates = option === null ? [resolve(model), resolve(dirname(runPath), model)] : [resolve(model)];
  const folder = candidates.find((candidate) => existsSync(candidate));
  if (folder === undefined) throw new CliError(`the model folder ${model} does not exist`);
  if (!statSync(folder).isDirectory()) throw new CliError(`${model} is a file; “cotrain import --from ${model} --out DIR” makes a model folder of it`);
  return { folder, config: await readJson(join(folder, configFile)) };
}

/** Flat weights of the folder, from one file or several, in f32, f16 or bf16; null when it has none. Throws `ModelFileError`. */
export async function readWeights(folder: string, config: DecoderConfig): Promise<Float32Array<ArrayBuffer> | null> {
  return withFiles(folder, async (files) => {
    const tensors = await openFolderWeights(files);
    return tensors === null ? null : readFlat(parameterLayoutOf(config), tensors);
  });
}

export async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true });
  } catch (error) {
    throw new CliError(`--out ${path} can't be made: ${error instanceof Error ? error.message : String(error)}`);
  }
}

export async function writeModel(out: string, config: DecoderConfig, flat: Float32Array<ArrayBuffer>): Promise<void> {
  await writeFile(join(out, weightsFile), writeSafetensors(tensorsFromFlat(parameterLayoutOf(config), flat)));
  await writeFile(join(out, configFile), `${JSON.stringify(toHuggingFaceConfig(config), null, 2)}\n`);
}

export async function copyTokenizer(folder: string, out: string): Promise<void> {
  if (resolve(folder) === resolve(out)) return;
  for (const name of tokenizerFiles) {
    if (existsSync(join(folder, name))) await copyFile(join(folder, name), join(out, name));
  }
}

export async function writeTokenizer(out: string, files: { readonly tokenizer: object; readonly config: object }): Promise<void> {
  await writeFile(join(out, tokenizerFile), `${JSON.stringify(files.tokenizer, null, 2)}\n`);
  await writeFile(join(out, tokenizerConfigFile), `${JSON.stringify(files.config, null, 2)}\n`);
}

/** Gradients by name as `namedGradients` gives them. */
export async function writeGradients(out: string, step: number, config: DecoderConfig, gradients: ReadonlyMap<string, Float32Array>): Promise<void> {
  const named = parameterLayoutOf(config).entries.map(({ name, shape }) => {
    const data = gradients.get(name);
    if (data === undefined) throw new CliError(`the trainer has no gradient of ${name}`);
    return [name, { shape, data }] as const;
  });
  await writeFile(join(out, `gradients-step${step}.safetensors`), writeSafetensors(new Map(named)));
}
