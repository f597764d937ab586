/** The page's side of the worker that tokenizes a text: started for one text and ended with it, so that nothing blocks the page. */
import { TokenizerError } from './errors.ts';
import { deserializeTokenizer } from './serialized-tokenizer.ts';
import type { TextChoice } from './tokenizer-choice.ts';
import type { TokenizingProgress } from './tokenize-text.ts';
import type { TokenizedText } from './tokenized-text.ts';

export interface TokenizingRequest {
  readonly text: string;
  readonly choice: TextChoice;
}
export type TokenizingAnswer =
  | { readonly type: 'progress'; readonly progress: TokenizingProgress }
  | { readonly type: 'done'; readonly kind: TokenizedText['kind']; readonly tokenizer: string; readonly tokens: Uint32Array<ArrayBuffer> }
  | { readonly type: 'failed'; readonly message: string };

export interface TokenizingOptions {
  readonly progress: (progress: TokenizingProgress) => void;
  /** Ends the work at once; the promise is rejected with the signal's reason. */
  readonly signal: AbortSignal;
}

type Done = Extract<TokenizingAnswer, { type: 'done' }>;

/** Rejects with a `TokenizerError` when the work fails. */
export async function tokenizeInWorker(request: TokenizingRequest, { progress, signal }: TokenizingOptions): Promise<TokenizedText> {
  signal.throwIfAborted();
  const worker = new Worker(new URL('./tokenizing-worker.ts', import.meta.url), { type: 'module', name: 'cotrain-tokenizer' });
  try {
    const { kind, tokenizer, tokens } = await new Promise<Done>((resolve, reject) => {
      signal.addEventListener('abort', () => {
        reject(signal.reason instanceof Error ? signal.reason : new TokenizerError('it was cancelled'));
      });
      worker.addEventListener('error', ({ message }) => {
        reject(new TokenizerError(`the tokenizer's worker failed: ${message}`));
      });
      worker.addEventListener('message', ({ data }: MessageEvent<TokenizingAnswer>) => {
        if (data.type === 'progress') progress(data.progress);
        else if (data.type === 'done') resolve(data);
        else reject(new TokenizerError(data.message));
      });
      worker.postMessage(request);
    });
    return { kind, tokenizer: await deserializeTokenizer(tokenizer), tokens };
  } finally {
    worker.terminate();
  }
}
