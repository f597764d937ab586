/**
 * A tokenizer as text, as it travels with a run and lies beside its checkpoints: which kinds there are, what is checked of them at
 * once, and how they are made into tokenizers again. It may come from another peer. The kinds' own code is loaded when it is used.
 */
import * as v from 'valibot';
import { CharacterTokenizer } from './character-tokenizer.ts';
import { TokenizerError } from './errors.ts';
import { endOfTextToken } from './special-tokens.ts';
import type { Tokenizer } from './tokenizer.ts';

/** As much as goes into a room's welcome beside the run's settings (see `room/messages.ts`). */
export const mostSerializedCharacters = 3_900_000;
const mostUnpackedBytes = 2 ** 26;
const mostTokens = 2 ** 20;

const whole = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(mostTokens));

/** In one loop: a schema for each of a hundred thousand ids takes half a second. */
function areIds(value: unknown): boolean {
  return Array.isArray(value) && value.length <= 2 * mostTokens && value.every((id) => Number.isInteger(id) && (id as number) >= 0 && (id as number) < mostTokens);
}

const charactersSchema = v.object({
  kind: v.literal('characters'),
  characters: v.pipe(v.array(v.pipe(v.string(), v.minLength(1), v.maxLength(2))), v.minLength(1), v.maxLength(200_000)),
});
const bpeSchema = v.object({
  kind: v.literal('bpe'),
  vocabularySize: v.pipe(whole, v.minValue(1)),
  /** Ids of both sides of each merge, one after another. */
  merges: v.custom<readonly number[]>(areIds),
  specialTokens: v.pipe(v.array(v.pipe(v.string(), v.minLength(1), v.maxLength(200))), v.maxLength(1000)),
});
const huggingFaceSchema = v.object({
  kind: v.literal('hugging-face'),
  vocabularySize: v.pipe(whole, v.minValue(1)),
  /** JSON of `{tokenizer, config}`, see `packed-json.ts`. */
  packedFiles: v.string(),
});
const serializedSchema = v.variant('kind', [charactersSchema, bpeSchema, huggingFaceSchema]);
type SerializedTokenizer = v.InferOutput<typeof serializedSchema>;
export type TokenizerKind = SerializedTokenizer['kind'];

/** Throws `TokenizerError` for what is none. */
function parseSerialized(json: string): SerializedTokenizer {
  if (json.length > mostSerializedCharacters) throw new TokenizerError(`a tokenizer of ${json.length} characters is too large to travel with a run`);
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    throw new TokenizerError('the tokenizer is not valid JSON');
  }
  const parsed = v.safeParse(serializedSchema, value);
  if (!parsed.success) throw new TokenizerError(`the tokenizer is not valid: ${v.getDotPath(parsed.issues[0]) ?? 'it'} is wrong`);
  return parsed.output;
}

export interface TokenizerFacts {
  readonly kind: TokenizerKind;
  /** As the text claims: `deserializeTokenizer` compares. */
  readonly vocabularySize: number;
}

/** What can be told at once. Throws `TokenizerError`. */
export function tokenizerFacts(json: string): TokenizerFacts {
  const serialized = parseSerialized(json);
  const vocabularySize = serialized.kind === 'characters' ? serialized.characters.length : serialized.vocabularySize;
  return { kind: serialized.kind, vocabularySize };
}

/** Throws `TokenizerError` when the text is no tokenizer. */
export async function deserializeTokenizer(json: string): Promise<Tokenizer> {
  const serialized = parseSerialized(json);
  switch (serialized.kind) {
    case 'characters':
      return new CharacterTokenizer(serialized.characters);
    case 'bpe': {
      const { BpeTokenizer } = await import('./bpe-tokenizer.ts');
      return BpeTokenizer.open(serialized);
    }
    case 'hugging-face': {
      const [{ HuggingFaceTokenizer }, { huggingFaceFiles }, { unpacked }] = await Promise.all([
        import('./hugging-face-tokenizer.ts'),
        import('./hugging-face-files.ts'),
        import('./packed-json.ts'),
      ]);
      const files = await unpacked(serialized.packedFiles, mostUnpackedBytes);
      const { tokenizer, config } = typeof files === 'object' && files !== null ? (files as Record<string, unknown>) : {};
      const opened = HuggingFaceTokenizer.unpacked(huggingFaceFiles(tokenizer, config ?? null), serialized.packedFiles);
      if (opened.vocabularySize === serialized.vocabularySize) return opened;
      throw new TokenizerError(`the tokenizer has ${opened.vocabularySize} tokens, and ${serialized.vocabularySize} were announced`);
    }
  }
}

/** The best tokenizer for a folder's files: one of ours where it has the same ids, else Hugging Face's own. `config`: null where there is none. */
export async function tokenizerFromHuggingFace(tokenizer: unknown, config: unknown): Promise<Tokenizer> {
  const [{ BpeTokenizer }, { HuggingFaceTokenizer }, { huggingFaceFiles }] = await Promise.all([
    import('./bpe-tokenizer.ts'),
    import('./hugging-face-tokenizer.ts'),
    import('./hugging-face-files.ts'),
  ]);
  const files = huggingFaceFiles(tokenizer, config);
  const endsText = files.config['eos_token'] ?? endOfTextToken;
  const own = CharacterTokenizer.fromHuggingFace(tokenizer) ?? (endsText === endOfTextToken ? BpeTokenizer.fromHuggingFace(tokenizer) : null);
  return own ?? HuggingFaceTokenizer.open(files);
}
