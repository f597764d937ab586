/** The words of `cotrain export`. What it does is in `../convert.ts`. */
import { ggufTypes, huggingFaceTypes } from '../../trainer/exchange/types.ts';
import type { Command } from '../command.ts';
import { convert } from '../convert.ts';
import type { ConvertOptions, Target } from '../convert.ts';
import { needed, oneOf, parseOptions } from '../options.ts';

const help = `Usage: cotrain export --model PATH --to hf|gguf --out PATH [--type TYPE]

Writes a model for other programs.

  --model PATH  What “cotrain train” wrote, or any Hugging Face folder of a llama or qwen3, the same as a .zip, a GGUF file,
                or a run file saved from the page.
  --to hf       A Hugging Face folder: config.json, generation_config.json, model.safetensors and the tokenizer. A zip
                where the name of --out ends with .zip.
  --to gguf     One file for llama.cpp and the programs built on it.
  --out PATH    What is there is replaced when the new one is whole.
  --type TYPE   How weights are stored. hf: f32 (default), bf16, f16. gguf: f32 (default), f16, q8_0; vectors stay f32, and
                matrices whose rows are no multiple of 32 are f16 in q8_0.
`;

export const exportCommand: Command = {
  name: 'export',
  summary: 'write a model for other programs: Hugging Face or GGUF',
  help,
  prepare: (words) => {
    const options = exportOptions(words);
    return (host) => convert(options, host);
  },
};

/** Throws `CliError` naming the option. */
export function exportOptions(words: readonly string[]): ConvertOptions {
  const { model, to, out, type } = parseOptions('export', words, {
    model: { type: 'string' },
    to: { type: 'string' },
    out: { type: 'string' },
    type: { type: 'string' },
  });
  const kind = oneOf('to', ['hf', 'gguf'], needed('export', 'to', to));
  const target: Target =
    kind === 'hf' ? { kind, type: oneOf('type', huggingFaceTypes, type ?? 'f32') } : { kind, type: oneOf('type', ggufTypes, type ?? 'f32') };
  return { from: needed('export', 'model', model), out: needed('export', 'out', out), target };
}
