/** A model folder as commands that only read one need it: config, weights and how much it looks back. */
import { parseConfig } from '../model/config.ts';
import type { ModelToOpen } from '../trainer/open-model.ts';
import { CliError } from './errors.ts';
import { findModel, readWeights } from './model-folder.ts';

/** What most models are asked to look back over; keys and values of more take gigabytes of some. */
const usualContext = 4096;

/** `context` as asked for, or null. Throws `CliError`. */
export async function readModelFolder(path: string, context: number | null): Promise<ModelToOpen & { readonly folder: string }> {
  const { folder, config: json } = await findModel(path, null, '');
  const model = parseConfig(json);
  if (folder === null) throw new CliError(`--model ${path} is not a folder`);
  if (context !== null && (context < 1 || context > model.max_position_embeddings)) {
    throw new CliError(`--context takes 1 to ${model.max_position_embeddings} tokens with this model, not ${context}`);
  }
  const weights = await readWeights(folder, model);
  if (weights === null) throw new CliError(`${folder} has no model.safetensors`);
  return { folder, model, weights, contextLength: context ?? Math.min(usualContext, model.max_position_embeddings) };
}
