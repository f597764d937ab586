/** The words of `cotrain import`. What it does is in `../convert.ts`. */
import type { Command } from '../command.ts';
import { convert } from '../convert.ts';
import type { ConvertOptions } from '../convert.ts';
import { needed, parseOptions } from '../options.ts';

const help = `Usage: cotrain import --from PATH --out DIR

Makes a model folder, which “cotrain train --model DIR” starts from, of a model from elsewhere.

  --from PATH  A GGUF file (F32, F16, BF16 or Q8_0), a .zip of a Hugging Face folder, the folder itself with its weights in
               several files or in bf16 or f16, or a run file saved from the page: of that also run.json with its settings
               and history.json with its curve.
  --out DIR    Gets config.json, model.safetensors in f32, and the tokenizer.
`;

export const importCommand: Command = {
  name: 'import',
  summary: 'make a model folder of a GGUF file, a zip or a saved run',
  help,
  prepare: (words) => {
    const options = importOptions(words);
    return (host) => convert(options, host);
  },
};

/** Throws `CliError` naming the option. */
export function importOptions(words: readonly string[]): ConvertOptions {
  const { from, out } = parseOptions('import', words, { from: { type: 'string' }, out: { type: 'string' } });
  return { from: needed('import', 'from', from), out: needed('import', 'out', out), target: { kind: 'hf', type: 'f32' } };
}
