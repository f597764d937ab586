/**
 * A byte-pair encoding as Hugging Face's libraries have it, written and read. Reads only what means the same as what is written:
 * GPT-2's words, bytes, merges and special tokens at the end, and nothing that changes text before or after. All else is for
 * `hugging-face-tokenizer.ts`.
 */
import * as v from 'valibot';
import { TokenizerError } from './errors.ts';
import { MergeTable } from './merge-table.ts';
import { endOfTextToken } from './special-tokens.ts';
import { wordPatternSource } from './words.ts';

const specialFlags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true } as const;

/** The regex is not left to `ByteLevel`: there JavaScript's library reads `\s` in JavaScript's way. */
const preTokenizer = {
  type: 'Sequence',
  pretokenizers: [
    { type: 'Split', pattern: { Regex: wordPatternSource }, behavior: 'Isolated', invert: false },
    { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
  ],
} as const;

/** `tokenizer.json` and `tokenizer_config.json`. */
export function bpeFiles(
  table: MergeTable,
  specialTokens: readonly string[],
  { modelMaxLength, chatTemplate }: { readonly modelMaxLength: number; readonly chatTemplate?: string },
): { readonly tokenizer: object; readonly config: object } {
  const names = Array.from({ length: table.size }, (_, id) => table.nameOf(id));
  const ends = specialTokens.includes(endOfTextToken) ? { bos_token: endOfTextToken, eos_token: endOfTextToken, pad_token: endOfTextToken } : {};
  return {
    tokenizer: {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: specialTokens.map((content, index) => ({ id: table.size + index, content, ...specialFlags })),
      normalizer: null,
      pre_tokenizer: preTokenizer,
      post_processor: null,
      decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
      model: {
        type: 'BPE',
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: false,
        vocab: Object.fromEntries([...names, ...specialTokens].map((name, id) => [name, id])),
        merges: table.merges.map(({ left, right }) => `${table.nameOf(left)} ${table.nameOf(right)}`),
      },
    },
    config: {
      tokenizer_class: 'PreTrainedTokenizerFast',
      model_max_length: modelMaxLength,
      clean_up_tokenization_spaces: false,
      ...ends,
      ...(chatTemplate === undefined ? {} : { chat_template: chatTemplate }),
    },
  };
}

const off = v.optional(v.literal(false), false);
const absent = v.nullish(v.literal(''), null);
const byteLevel = { type: v.literal('ByteLevel') };

const sameWordsSchema = v.variant('type', [
  v.object({ ...byteLevel, add_prefix_space: v.literal(false), use_regex: v.optional(v.literal(true), true) }),
  v.object({
    type: v.literal('Sequence'),
    pretokenizers: v.strictTuple([
      v.object({ type: v.literal('Split'), pattern: v.object({ Regex: v.literal(wordPatternSource) }), behavior: v.literal('Isolated'), invert: off }),
      v.object({ ...byteLevel, add_prefix_space: v.literal(false), use_regex: v.literal(false) }),
    ]),
  }),
]);

/** A side of a merge holds no blank: bytes are written as visible characters. */
const mergeSchema = v.union([v.pipe(v.string(), v.regex(/^[^ ]+ [^ ]+$/)), v.strictTuple([v.string(), v.string()])]);

const fileSchema = v.object({
  added_tokens: v.array(v.object({ id: v.number(), content: v.string(), special: v.literal(true), single_word: off, lstrip: off, rstrip: off })),
  normalizer: v.nullish(v.never()),
  pre_tokenizer: sameWordsSchema,
  post_processor: v.nullish(v.object(byteLevel)),
  decoder: v.object(byteLevel),
  model: v.object({
    type: v.literal('BPE'),
    dropout: v.nullish(v.never()),
    continuing_subword_prefix: absent,
    end_of_word_suffix: absent,
    byte_fallback: off,
    ignore_merges: off,
    // Not a valibot record: those leave out keys such as “constructor”.
    vocab: v.custom<Readonly<Record<string, unknown>>>((value) => typeof value === 'object' && value !== null && !Array.isArray(value)),
    merges: v.array(mergeSchema),
  }),
});

/** Null when the file says anything that ids like ours could not. */
export function readBpe(json: unknown): { readonly table: MergeTable; readonly specialTokens: readonly string[] } | null {
  const parsed = v.safeParse(fileSchema, json);
  if (!parsed.success) return null;
  const { added_tokens: added, model } = parsed.output;
  const ids = new Map(Object.entries(model.vocab));
  const table = tableOf(model.merges.map((merge) => (typeof merge === 'string' ? merge.split(' ') : merge)), ids);
  if (table === null) return null;
  const specialTokens = added.toSorted((one, other) => one.id - other.id).map(({ content }) => content);
  // Some files list special tokens among the others, some only beside them.
  for (const { id, content } of added) if (ids.get(content) === id) ids.delete(content);
  const areOurs = ids.size === table.size && Array.from({ length: table.size }, (_, id) => ids.get(table.nameOf(id)) === id).every(Boolean);
  const areBehind = specialTokens.every((content, index) => added.some((token) => token.content === content && token.id === table.size + index));
  return areOurs && areBehind && new Set(specialTokens).size === specialTokens.length ? { table, specialTokens } : null;
}

function tableOf(merges: readonly (readonly string[])[], ids: ReadonlyMap<string, unknown>): MergeTable | null {
  const table = new MergeTable();
  try {
    for (const [left = '', right = ''] of merges) {
      const [one, other] = [ids.get(left), ids.get(right)];
      if (typeof one !== 'number' || typeof other !== 'number') return null;
      table.add(one, other);
    }
    return table;
  } catch (error) {
    if (error instanceof TokenizerError) return null;
    throw error;
  }
}
