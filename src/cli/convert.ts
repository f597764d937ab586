/** What `cotrain export` and `cotrain import` do: a model from one form into another, through files on disk. */
import { join } from 'node:path';
import { zipStream } from '../checkpoint/archive.ts';
import { ggufOutput } from '../trainer/exchange/gguf-model.ts';
import { huggingFaceOutputs, jsonFile } from '../trainer/exchange/hugging-face-model.ts';
import { openModel } from '../trainer/exchange/model-source.ts';
import type { OpenedModel } from '../trainer/exchange/model-source.ts';
import type { GgufType, HuggingFaceType, ModelParts, OutputFile } from '../trainer/exchange/types.ts';
import type { CliHost } from './command.ts';
import { CliError } from './errors.ts';
import { withFiles, writeWhole } from './node-files.ts';

export type Target = { readonly kind: 'hf'; readonly type: HuggingFaceType } | { readonly kind: 'gguf'; readonly type: GgufType };

export interface ConvertOptions {
  /** A folder, or a file: zip, GGUF or run file. */
  readonly from: string;
  /** A folder, or a file: a zip where its name says so, or a GGUF. */
  readonly out: string;
  readonly target: Target;
}

type ConvertHost = Pick<CliHost, 'progress' | 'print'>;

/** Throws `CliError`, or an error that names the file and the place in it. */
export async function convert({ from, out, target }: ConvertOptions, { progress, print }: ConvertHost): Promise<void> {
  await withFiles(from, async (files) => {
    const model = await openModel(files);
    const { readWeights } = model;
    if (readWeights === null) throw new CliError(`${from} has a configuration and no weights`);
    try {
      progress.begin({ task: 'read', unit: 'numbers', total: null, title: `${model.name}: ${model.config.model_type}, from ${kinds[model.kind]}` });
      const parts = { ...model, weights: await readWeights({ onProgress: (elements) => progress.advance(elements) }) };
      progress.end();
      await write(parts, model, out, target, { progress, print });
    } finally {
      progress.end();
    }
  });
}

const kinds: Readonly<Record<OpenedModel['kind'], string>> = { 'hugging-face': 'a Hugging Face folder', gguf: 'a GGUF file', run: 'a run file' };

async function write(parts: ModelParts, model: OpenedModel, out: string, target: Target, { progress, print }: ConvertHost): Promise<void> {
  const files = target.kind === 'gguf' ? [ggufOutput(parts, target.type, out)] : [...huggingFaceOutputs(parts, target.type), ...runOutputs(model)];
  const size = files.reduce((sum, file) => sum + file.size, 0);
  progress.begin({ task: 'write', unit: 'bytes', total: size });
  let before = 0;
  const advance = (bytes: number): void => progress.advance(before + bytes);
  if (target.kind === 'hf' && out.endsWith('.zip')) {
    await writeWhole(out, zipStream(files), advance);
  } else {
    for (const file of files) {
      await writeWhole(target.kind === 'gguf' ? out : join(out, file.path), file.chunks(), advance);
      before += file.size;
    }
  }
  progress.end();
  print(`${out}: ${size.toLocaleString('en')} bytes of ${target.type}\n`);
}

/** What a run file tells beside the model: its settings as a run.json, and its curve. */
function runOutputs({ run }: OpenedModel): readonly OutputFile[] {
  const settings = run?.facts == null ? null : settingsOf(run.facts.run);
  const history = run?.checkpoint == null ? null : parsed(run.checkpoint.history);
  return [...(settings === null ? [] : [jsonFile('run.json', settings)]), ...(history === null ? [] : [jsonFile('history.json', history)])];
}

/** Of a run's description, all but the model, which lies beside it. */
function settingsOf(description: string): object | null {
  const json = parsed(description);
  if (typeof json !== 'object' || json === null || !('settings' in json) || typeof json.settings !== 'object' || json.settings === null) return null;
  return Object.fromEntries(Object.entries(json.settings).filter(([name]) => name !== 'model'));
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
