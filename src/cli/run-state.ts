/** A run of the command line as a run file: what `train --save-run` leaves and `train --resume` goes on with. */
import { basename } from 'node:path';
import type { MasterState } from '../checkpoint/types.ts';
import type { TokenizerFiles } from '../data/tokenizer-files.ts';
import { parameterLayoutOf } from '../model/parameters.ts';
import type { DecoderConfig } from '../model/types.ts';
import { openModel } from '../trainer/exchange/model-source.ts';
import { runFileOutput } from '../trainer/exchange/run-file.ts';
import { CliError } from './errors.ts';
import { withFiles, writeWhole } from './node-files.ts';

/** Throws `CliError` or `ModelFileError` naming the file. */
export async function readRunState(path: string, config: DecoderConfig): Promise<MasterState> {
  return withFiles(path, async (files) => {
    const model = await openModel(files);
    const readState = model.run?.readState ?? null;
    if (readState === null) throw new CliError(`--resume ${path}: has no optimizer state; --model begins with its weights alone`);
    const shapesOf = (one: DecoderConfig): string => JSON.stringify([one.model_type, parameterLayoutOf(one).entries]);
    if (shapesOf(model.config) !== shapesOf(config)) throw new CliError(`--resume ${path}: is another model than the run’s`);
    return readState();
  });
}

export async function writeRunState(path: string, state: MasterState, config: DecoderConfig, tokenizer: TokenizerFiles | null): Promise<void> {
  const { step, weights, ...optimizer } = state;
  const now = Date.now();
  const output = runFileOutput(
    {
      name: basename(path).replace(/\..*$/, ''),
      config,
      weights: new Float32Array(weights),
      tokenizer,
      facts: null,
      checkpoint: { term: 1, step, savedAtMs: now, startedAtMs: now, loss: null, history: '[]' },
      optimizer,
      corpus: null,
    },
    path,
  );
  await writeWhole(path, output.chunks(), () => undefined);
}
