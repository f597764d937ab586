/** The words of `cotrain train`: its options and its help. What it does is in `../train.ts`. */
import type { Command } from '../command.ts';
import { debugLevels } from '../debug.ts';
import type { DebugLevel } from '../debug.ts';
import { CliError } from '../errors.ts';
import { needed, parseOptions, wholeNumber } from '../options.ts';
import { train, trainProgress } from '../train.ts';
import type { TrainOptions } from '../train.ts';

const help = `Usage: cotrain train --data WHAT [--data WHAT ...] --run run.json --out DIR [--model DIR] [--column NAME]
                     [--save-gradients STEP] [--save-run FILE] [--resume FILE] [--debug LEVEL]

Trains alone, without a browser, exactly as a room of one would.

  --model DIR            Hugging Face folder: config.json, and model.safetensors to start from (fresh weights from the
                         run's seed without it) and tokenizer.json. Wins over "model" in the run file.
  --data WHAT            A file, a folder of files, an https:// address, or hf://datasets/NAME[@REVISION][/PATH] (of the hub
                         at $HF_ENDPOINT, else huggingface.co); as often as you like. Kinds, each also with .gz but parquet:
                           .txt, .md               a document, by the folder's tokenizer.json, else by character
                           .jsonl, .json           an object is a document: its text, or pre-tokenized rows with input_ids
                                                   and optional labels and loss_weights
                           .csv, .tsv, .parquet    the same, row by row
  --column NAME          Of tables, the column that is the text; without it text, content and the like are recognised.
  --run run.json         The run, as JSON. Keys and what they are when left out:
                           model             folder or Hugging Face config object (needed here or by --model)
                           steps 300, rowsPerStep 8, rowsPerMicrobatch 2, contextLength 128
                           order "shuffled" (or "sequential"), seed 1, codec "fp32" (of rooms), localSteps 1, precision "f32" (or "mixed")
                           evalEvery 0       validation loss every so many steps, on a tenth of the documents, or the last tenth of one;
                                             the best model so far is in best/ inside --out
                           patience 0        evaluations without a lower loss after which the run ends; 0: however many
                           keepDocumentsApart true where there are several: neither attention nor loss goes from one to the next
                           rowLayout         "text" (windows), "packed" (whole documents, as many as fit) or "single" (one to a row)
                           optimizer         learningRate 0.001, minLearningRate 0.0001, warmupSteps 0,
                                             schedule "cosine" (or "linear", "constant"), beta1 0.9, beta2 0.95,
                                             epsilon 1e-8, weightDecay 0.1, gradientClip 1 (0 for none); with local steps
                                             outerLearningRate 0.9, outerMomentum 0.5; method "adamw" or "muon" (which takes
                                             matrices inside the layers by momentum 0.95 and matrixRate 4 times learningRate)
                           objective         what is scored: {"kind": "everything"}, or "assistant": what the assistant says, or
                                             "weights" with default 0, byRole {"user": 0.1, ...} and
                                             byDelimiters [{"open": "<think>", "close": "</think>", "weight": 0.5}]
                           labelSmoothing 0  share of each label that is spread over the vocabulary, not in validation
                           frozen            what is not trained: embeddings false, layers 0 (so many of the lowest)
  --out DIR              Made if absent. Gets metrics.jsonl (a line for each step), model.safetensors, config.json
                         and the tokenizer.
  --save-gradients STEP  Also gradients-step<STEP>.safetensors: of that step's mean loss, before clipping. Steps
                         count from 0.
  --save-run FILE        Also a run file at the end: weights, optimizer and step.
  --resume FILE          Goes on from such a file instead of beginning anew; give the same run, model and data. What it has
                         measured is added to metrics.jsonl.
  --debug LEVEL          Says on stderr: 1 a line for each step; 2 also what each kernel takes; 3 also, before each step,
                         whether its values are finite, and which op first gave one that is not; 4 also how far each
                         kernel of the first micro-batch is from its meaning in f64 (minutes, but for small models).

Ctrl-C ends the run after the step it is in; what was trained is written.
`;

export const trainCommand: Command = {
  name: 'train',
  summary: "train a model alone, on this machine's GPU",
  help,
  prepare: (words) => {
    const options = trainOptions(words);
    return (host) => train(options, { ...host, progress: trainProgress(host.progress) });
  },
};

/** Throws `CliError` naming the option. */
export function trainOptions(words: readonly string[]): TrainOptions {
  const values = parseOptions('train', words, {
    model: { type: 'string' },
    data: { type: 'string', multiple: true },
    column: { type: 'string' },
    run: { type: 'string' },
    out: { type: 'string' },
    'save-gradients': { type: 'string' },
    debug: { type: 'string' },
    resume: { type: 'string' },
    'save-run': { type: 'string' },
  });
  const saveGradients = values['save-gradients'];
  return {
    model: values.model ?? null,
    data: values.data?.map((each) => needed('train', 'data', each)) ?? [needed('train', 'data', undefined)],
    column: values.column ?? null,
    run: needed('train', 'run', values.run),
    out: needed('train', 'out', values.out),
    debug: debugLevel(values.debug),
    resume: values.resume,
    saveRun: values['save-run'],
    saveGradients: saveGradients === undefined ? null : wholeNumber('save-gradients', 'a step from 0', saveGradients),
  };
}

function debugLevel(text = '0'): DebugLevel {
  const level = debugLevels.find((known) => String(known) === text);
  if (level === undefined) throw new CliError(`--debug takes a level from ${debugLevels[0]} to ${debugLevels.at(-1) ?? 0}, not “${text}”`);
  return level;
}
