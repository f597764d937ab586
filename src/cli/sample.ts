/** `cotrain sample`: lets a model folder continue a text, on stdout as it comes. Draws nothing itself. */
import { ReplyText } from '../data/reply-text.ts';
import type { DrawSettings } from '../trainer/drawing.ts';
import { drawProblem } from '../trainer/drawing.ts';
import type { CliHost } from './command.ts';
import { CliError } from './errors.ts';
import { readFolderTokenizer } from './folder-tokenizer.ts';
import { readModelFolder } from './open-folder.ts';

export interface SampleOptions extends DrawSettings {
  readonly model: string;
  readonly prompt: string;
  readonly maxTokens: number;
  readonly seed: number;
  readonly stop: readonly string[];
  readonly context: number | null;
  /** Null: text on a terminal, JSON elsewhere. */
  readonly format: 'text' | 'json' | null;
}

const name = 'sample';

/** Throws `CliError` with one line that a person can act on. */
export async function sample(options: SampleOptions, host: CliHost): Promise<void> {
  const { prompt, maxTokens, seed, stop, temperature, topK = 0, topP = 1, minP = 0, repetitionPenalty = 1 } = options;
  const drawing = { temperature, topK, topP, minP, repetitionPenalty };
  const problem = drawProblem(drawing);
  if (problem !== null) throw new CliError(problem);
  const opened = await readModelFolder(options.model, options.context);
  const tokenizer = await readFolderTokenizer(opened.folder);
  const stopIds = tokenizer.endOfText === null ? [] : [tokenizer.endOfText];
  const promptIds = prompt === '' ? stopIds : [...tokenizer.encode(prompt)];
  if (promptIds.length === 0) throw new CliError('--prompt is empty, and this model has no token that begins a text');
  const isText = (options.format ?? (host.isTerminal ? 'text' : 'json')) === 'text';
  const model = await host.openModel(opened);
  const reply = new ReplyText(tokenizer, stop);
  let shown = '';
  let isStopped = false;
  const show = (text: string): void => {
    const piece = text.slice(shown.length);
    if (piece === '') return;
    shown = text;
    host.print(isText ? piece : `${JSON.stringify({ text: piece })}\n`);
  };
  try {
    if (isText) host.print(prompt);
    const request = { ...drawing, promptIds, maxNewTokens: maxTokens, seed, stopIds, sample: name };
    const { ids, end, tokensPerSecond } = await model.sample(request, (id) => {
      if (host.isInterrupted()) model.stopSample(name);
      if (isStopped || stopIds.includes(id)) return;
      const soFar = reply.push(id);
      ({ isStopped } = soFar);
      if (isStopped) model.stopSample(name);
      show(soFar.text);
    });
    show(reply.end());
    const facts = { tokens: ids.length, tokensPerSecond: Math.round(tokensPerSecond * 100) / 100, end: isStopped || end === 'stop-id' ? 'stop' : end };
    host.print(isText ? '\n' : `${JSON.stringify({ prompt, completion: reply.end(), ...facts })}\n`);
    if (isText) host.warn(`${facts.tokens} tokens, ${facts.tokensPerSecond.toFixed(1)} a second`);
  } finally {
    model.close();
  }
}
