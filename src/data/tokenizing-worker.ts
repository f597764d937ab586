/** Entry of the worker that makes a tokenizer of a text and encodes it. Answers one request; see `tokenizing-client.ts`. */
import { deserializeTokenizer, tokenizerFacts } from './serialized-tokenizer.ts';
import { encodeText, tokenizeText } from './tokenize-text.ts';
import type { TokenizingAnswer, TokenizingRequest } from './tokenizing-client.ts';

const reportEveryMs = 100;

function answer(message: TokenizingAnswer, moved: Transferable[] = []): void {
  postMessage(message, { transfer: moved });
}

addEventListener('message', ({ data }: MessageEvent<TokenizingRequest>) => void tokenize(data));

async function tokenize({ text, choice }: TokenizingRequest): Promise<void> {
  try {
    const work = choice.kind === 'given' ? encodeText(text, await deserializeTokenizer(choice.tokenizer), tokenizerFacts(choice.tokenizer).kind) : tokenizeText(text, choice);
    let reportedMs = 0;
    for (let step = work.next(); ; step = work.next()) {
      if (step.done === true) {
        const { kind, tokenizer, tokens } = step.value;
        answer({ type: 'done', kind, tokenizer: tokenizer.serialize(), tokens }, [tokens.buffer]);
        return;
      }
      if (performance.now() - reportedMs < reportEveryMs) continue;
      reportedMs = performance.now();
      answer({ type: 'progress', progress: step.value });
    }
  } catch (error) {
    answer({ type: 'failed', message: error instanceof Error ? error.message : String(error) });
  }
}
