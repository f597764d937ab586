/**
 * A model from whatever a person gives: a Hugging Face folder, the same as a zip, a GGUF file, or a run file. What it is is told by
 * its contents. Everything but the weights is read and checked at once; weights when they are asked for.
 */
import { isZip, openZip } from '../../checkpoint/archive.ts';
import { ModelFileError } from '../../checkpoint/bytes.ts';
import type { ByteSource } from '../../checkpoint/bytes.ts';
import type { FileSet, ReadOptions } from '../../checkpoint/hf-folder.ts';
import { TokenizerError } from '../../data/errors.ts';
import type { TokenizerFiles } from '../../data/tokenizer-files.ts';
import { ConfigError } from '../../model/config.ts';
import type { DecoderConfig } from '../../model/types.ts';
import { openGgufModel } from './gguf-model.ts';
import { configFile, openFolder } from './hugging-face-model.ts';
import { openRunFile } from './run-file.ts';
import type { OpenedRun } from './run-file.ts';

export interface OpenedModel {
  readonly kind: 'hugging-face' | 'gguf' | 'run';
  readonly name: string;
  readonly config: DecoderConfig;
  readonly tokenizer: TokenizerFiles | null;
  /** Null where there is a configuration alone. */
  readonly readWeights: ((options?: ReadOptions) => Promise<Float32Array<ArrayBuffer>>) | null;
  /** What a run file has beside the model; null for a model alone. */
  readonly run: OpenedRun | null;
}

/** Throws `ModelFileError` naming the file, and the place in it. */
export async function openModel(files: FileSet): Promise<OpenedModel> {
  const [single] = files.values();
  if (single === undefined) throw new ModelFileError('there is no file');
  if (files.size > 1 || single.name.endsWith(configFile)) return openHuggingFace(files);
  if (await isZip(single)) return openHuggingFace(await openZip(single), baseName(single.name));
  if (await startsWith(single, 'GGUF')) return named(single, async () => {
    const { name, ...model } = await openGgufModel(single);
    return { kind: 'gguf', name: name ?? baseName(single.name), run: null, ...model };
  });
  return named(single, async () => {
    const { model, ...run } = await openRunFile(single);
    return { kind: 'run', run, ...model };
  });
}

/** Errors of a file that know no names get the file's. */
async function named<T>({ name }: ByteSource, open: () => Promise<T>): Promise<T> {
  try {
    return await open();
  } catch (error) {
    throw error instanceof ConfigError || error instanceof TokenizerError ? new ModelFileError(`${name}: ${error.message}`) : error;
  }
}

async function openHuggingFace(files: FileSet, name?: string): Promise<OpenedModel> {
  const { files: inFolder, folder } = folderOf(files);
  return { kind: 'hugging-face', name: folder ?? name ?? 'model', run: null, ...(await openFolder(inFolder)) };
}

/** The files beside the one config.json that lies highest; archives and folders often hold another folder. */
function folderOf(files: FileSet): { readonly files: FileSet; readonly folder: string | null } {
  const [highest] = [...files.keys()].filter((path) => path === configFile || path.endsWith(`/${configFile}`)).sort((a, b) => a.split('/').length - b.split('/').length);
  const prefix = highest === undefined ? '' : highest.slice(0, -configFile.length);
  const folder = prefix.split('/').at(-2) ?? null;
  return { files: new Map(Array.from(files).flatMap(([path, source]) => (path.startsWith(prefix) ? [[path.slice(prefix.length), source] as const] : []))), folder };
}

function baseName(path: string): string {
  return (path.split('/').at(-1) ?? path).replace(/\.(zip|gguf)$/i, '');
}

async function startsWith(source: ByteSource, text: string): Promise<boolean> {
  return source.size >= text.length && new TextDecoder().decode(await source.read(0, text.length)) === text;
}
