/**
 * What a person lets the model of their room write: text in, text out as it comes. Between the page and the trainer: it knows the
 * run's tokenizer and the names of weights that were kept, draws nothing itself, and shows nothing.
 */
import { ReplyText } from '../data/reply-text.ts';
import type { Tokenizer } from '../data/tokenizer.ts';
import { carriedProblem, problems as trainerProblems } from '../trainer/errors.ts';
import type { SampleResult, Trainer } from '../trainer/types.ts';
import { problem } from './problems.ts';
import { RunError } from './run.ts';
import type { StateStore } from './state.ts';
import type { ChatMessage, GenerateOptions, Generated, KeptModel } from './types.ts';

/** A conversation as the model was taught it. */
export interface ChatFormat {
  /** Up to where the assistant's answer begins. */
  readonly encode: (messages: readonly ChatMessage[]) => readonly number[];
  /** Tokens that end an answer. */
  readonly stopIds: readonly number[];
}

export interface WriterOptions {
  readonly trainer: () => Trainer;
  readonly tokenizer: Tokenizer;
  /** Null where the run has no template: prompts are then continued as they are. */
  readonly chat: ChatFormat | null;
  readonly store: Pick<StateStore, 'state' | 'update'>;
}

const keptWeightsGone = trainerProblems.keptWeightsGone().code;

const defaults = { temperature: 0.8, maxNewTokens: 200 } as const;

export class Writer {
  readonly #options: WriterOptions;
  #named = 0;

  constructor(options: WriterOptions) {
    this.#options = options;
    options.store.update({ kept: [], hasChat: options.chat !== null });
  }

  /** Rejects with a `problem` where there is nothing to continue or no memory for it. */
  async generate(prompt: string | readonly ChatMessage[], options: GenerateOptions = {}): Promise<Generated> {
    const { tokenizer, chat } = this.#options;
    const { signal, onText, stop = [], weights, seed = randomSeed(), ...drawing } = options;
    const promptIds = this.#promptIds(prompt);
    const stopIds = [...(tokenizer.endOfText === null ? [] : [tokenizer.endOfText]), ...(chat?.stopIds ?? [])];
    const trainer = this.#options.trainer();
    const sample = `reply ${++this.#named}`;
    const halt = (): void => trainer.stopSample(sample);
    const reply = new ReplyText(tokenizer, stop);
    let isStopped = false;
    const drawn = (id: number): void => {
      if (isStopped || stopIds.includes(id)) return;
      const soFar = reply.push(id);
      ({ isStopped } = soFar);
      if (isStopped) halt();
      if (signal?.aborted !== true) onText?.(soFar.text);
    };
    signal?.addEventListener('abort', halt, { once: true });
    try {
      signal?.throwIfAborted();
      const given = { ...defaults, ...drawing, promptIds, stopIds, seed, sample, ...(weights !== undefined && { weights }) };
      const result = await trainer.sample(given, drawn);
      return generated(result, { tokenizer, stop, stopIds });
    } catch (error) {
      if (weights !== undefined && carriedProblem(error)?.code === keptWeightsGone) this.#forget(weights);
      throw error;
    } finally {
      signal?.removeEventListener('abort', halt);
    }
  }

  /** Keeps the weights as they are now under a name. */
  async keep(name: string): Promise<KeptModel> {
    const kept = { ...(await this.#options.trainer().keepWeights()), name };
    const { store } = this.#options;
    store.update({ kept: [...store.state.kept, kept] });
    return kept;
  }

  async drop(id: number): Promise<void> {
    this.#forget(id);
    await this.#options.trainer().dropWeights(id);
  }

  /** Frees what was kept. */
  end(): void {
    // Weights that are gone already need no freeing.
    for (const { id } of this.#options.store.state.kept) this.drop(id).catch(() => undefined);
    this.#options.store.update({ kept: [], hasChat: false, canGenerate: false });
  }

  #promptIds(prompt: string | readonly ChatMessage[]): readonly number[] {
    const { tokenizer, chat } = this.#options;
    const ids = typeof prompt === 'string' ? [...tokenizer.encodeKnown(prompt)] : chat?.encode(prompt);
    if (ids === undefined) throw new RunError(problem('no-chat-template', 'This run was not taught conversations: give it a text to continue.'));
    if (ids.length > 0) return ids;
    if (prompt === '' && tokenizer.endOfText !== null) return [tokenizer.endOfText];
    throw new RunError(problem('nothing-to-continue', 'There is nothing to continue: the model knows none of these characters.'));
  }

  #forget(id: number): void {
    const { store } = this.#options;
    store.update({ kept: store.state.kept.filter((kept) => kept.id !== id) });
  }
}

/** From the result alone: tokens are told over a way of their own, which may be slower than the result's. */
function generated(
  { ids, end, tokensPerSecond, fromStep, toStep }: SampleResult,
  { tokenizer, stop, stopIds }: { readonly tokenizer: Tokenizer; readonly stop: readonly string[]; readonly stopIds: readonly number[] },
): Generated {
  const reply = new ReplyText(tokenizer, stop);
  let isStopped = false;
  for (const id of ids) if (!stopIds.includes(id)) ({ isStopped } = reply.push(id));
  return { text: reply.end(), end: isStopped || end === 'stop-id' ? 'stop' : end, tokens: ids.length, tokensPerSecond, fromStep, toStep };
}

function randomSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
}
