/**
 * Tokenizers as llama.cpp has them ⇄ Hugging Face's files. Byte-level BPE is its model `gpt2`, whose pre-tokenizer has to be one
 * that it knows by name. Our character tokenizer is its model `rwkv`, which takes the longest token at each place and has no
 * special tokens: a character is its UTF-8 bytes, of which none is the beginning of another. (As `gpt2` it would have an
 * end-of-text, token 11 where none is named, and stop at that character.) What the vocabulary lacks becomes `unknown`.
 * Sources: llama.cpp's src/llama-vocab.cpp, gguf-py/gguf/constants.py and convert_hf_to_gguf.py.
 */
import { CharacterTokenizer } from './character-tokenizer.ts';
import { TokenizerError } from './errors.ts';
import { describeTokenizer } from './tokenizer-files.ts';
import type { TokenizerFiles } from './tokenizer-files.ts';
import { isRecord } from './records.ts';

/** `tokenizer.ggml.…` */
export interface GgufTokenizer {
  readonly model: 'gpt2' | 'rwkv';
  readonly pre: string | null;
  readonly tokens: readonly string[];
  readonly types: readonly number[];
  readonly merges: readonly string[];
  readonly beginOfText: number | null;
  readonly endOfText: number | null;
  readonly unknown: number | null;
  readonly chatTemplate: string | null;
}

/** Of `llama_token_type`. */
const tokenTypes = { normal: 1, control: 3, userDefined: 4, unused: 5 } as const;

interface PreTokenizer {
  /** llama.cpp's name. */
  readonly name: string;
  /** Of a Split before the byte level. */
  readonly pattern: string;
}

/** Pre-tokenizers by the expression that they split by. */
const gpt2: PreTokenizer = { name: 'gpt-2', pattern: String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+` };
const preTokenizers: readonly PreTokenizer[] = [
  gpt2,
  {
    name: 'llama-bpe',
    pattern: String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
  },
  {
    name: 'qwen2',
    pattern: String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
  },
];

/** `vocabularySize` is the model's: ids that the tokenizer has no token for are filled up. Throws `TokenizerError` for what llama.cpp has no name for. */
export function ggufTokenizer(files: TokenizerFiles, vocabularySize: number): GgufTokenizer {
  const characters = CharacterTokenizer.fromHuggingFace(files.tokenizer);
  if (characters !== null) return ofCharacters(characters, vocabularySize);
  const pre = preTokenizerOf(files.tokenizer);
  const { texts, added, merges, beginOfText, endOfText, chatTemplate } = describeTokenizer(files);
  if (texts.length > vocabularySize) throw new TokenizerError(`the tokenizer has ${texts.length} tokens, and the model ${vocabularySize}`);
  const kinds = new Map(added.map(({ id, isSpecial }) => [id, isSpecial ? tokenTypes.control : tokenTypes.userDefined]));
  const ids = Array.from({ length: vocabularySize }, (_, id) => id);
  return {
    model: 'gpt2',
    pre,
    tokens: ids.map((id) => texts[id] ?? unusedText(id)),
    types: ids.map((id) => kinds.get(id) ?? (texts[id] === undefined ? tokenTypes.unused : tokenTypes.normal)),
    merges: merges.map((pair) => pair.join(' ')),
    beginOfText,
    endOfText,
    unknown: null,
    chatTemplate,
  };
}

function unusedText(id: number): string {
  return `[PAD${id}]`;
}

/** llama.cpp's name of the pre-tokenizer, with which it gives the same tokens. */
function preTokenizerOf(json: unknown): string {
  const { normalizer, pre_tokenizer: pre, model } = isRecord(json) ? json : {};
  const kinds = (isRecord(pre) && pre['type'] === 'Sequence' && Array.isArray(pre['pretokenizers']) ? (pre['pretokenizers'] as readonly unknown[]) : [pre]).filter(isRecord);
  const [last] = kinds.slice(-1);
  const isNormalized = (normalizer ?? null) !== null && !(isRecord(normalizer) && normalizer['type'] === 'NFC');
  if (isNormalized || last?.['type'] !== 'ByteLevel' || last['add_prefix_space'] === true) {
    throw new TokenizerError('llama.cpp has no name for this tokenizer: it is not byte-level BPE without a prefix space');
  }
  // Llama 3 merges nothing in a word that is a token as a whole, and llama.cpp does so by this pre-tokenizer's name.
  const ignoresMerges = isRecord(model) && model['ignore_merges'] === true;
  const [split, ...more] = kinds.slice(0, -1);
  // GPT-2's is also what the byte level itself splits by, where it is not told otherwise.
  const splitsItself = last['use_regex'] !== false;
  const pattern = split === undefined ? (splitsItself ? gpt2.pattern : null) : splitsItself ? null : patternOf(split);
  const known = more.length > 0 ? undefined : preTokenizers.find((candidate) => candidate.pattern === pattern);
  if (known === undefined || ignoresMerges !== (known.name === 'llama-bpe')) {
    throw new TokenizerError('llama.cpp has no name for this tokenizer’s pre-tokenizer: GPT-2’s, Llama 3’s and Qwen2’s are known here');
  }
  return known.name;
}

function patternOf(split: Readonly<Record<string, unknown>>): string {
  const { pattern } = split;
  const regex = split['type'] === 'Split' && split['behavior'] === 'Isolated' && isRecord(pattern) ? pattern['Regex'] : null;
  return typeof regex === 'string' ? regex : '';
}

function isWellFormed(text: string): boolean {
  return !/\p{Surrogate}/u.test(text);
}

function ofCharacters({ characters }: CharacterTokenizer, vocabularySize: number): GgufTokenizer {
  if (characters.length > vocabularySize) throw new TokenizerError(`the tokenizer has ${characters.length} tokens, and the model ${vocabularySize}`);
  const ids = Array.from({ length: vocabularySize }, (_, id) => id);
  // Half a surrogate pair is no Unicode text: its token is there, and nothing becomes it.
  const known = ids.map((id) => characters[id]).map((text) => (text !== undefined && isWellFormed(text) ? text : undefined));
  const space = known.indexOf(' ');
  return {
    model: 'rwkv',
    pre: null,
    tokens: ids.map((id) => escaped(known[id] ?? unusedText(id))),
    types: ids.map((id) => (known[id] === undefined ? tokenTypes.unused : tokenTypes.normal)),
    merges: [],
    beginOfText: null,
    endOfText: null,
    unknown: space === -1 ? 0 : space,
    chatTemplate: null,
  };
}

const escapes: ReadonlyMap<string, string> = new Map([['\\', '\\\\'], ['\n', '\\n'], ['\r', '\\r'], ['\t', '\\t']]);

function escaped(text: string): string {
  return [...text].map((character) => escapes.get(character) ?? (character === '\0' ? '\\x00' : character)).join('');
}

function unescaped(token: string): string {
  return token.replace(/\\(x[0-9a-fA-F]{2}|[\s\S])/g, (_, code: string) => {
    if (code.startsWith('x') && code.length === 3) return String.fromCharCode(Number.parseInt(code.slice(1), 16));
    return { n: '\n', r: '\r', t: '\t' }[code] ?? code;
  });
}

/** The files that a GGUF's metadata amount to. Throws `TokenizerError` for tokenizers other than the two above. */
export function filesOfGguf(metadata: ReadonlyMap<string, unknown>, modelMaxLength: number): TokenizerFiles {
  const value = (key: string): unknown => metadata.get(`tokenizer.ggml.${key}`);
  const model = value('model');
  const tokens = value('tokens');
  if (!Array.isArray(tokens) || !tokens.every((token) => typeof token === 'string')) throw new TokenizerError('tokenizer.ggml.tokens is not a list of tokens');
  if (model === 'rwkv') return charactersOf(tokens).toHuggingFace(modelMaxLength);
  if (model !== 'gpt2') throw new TokenizerError(`tokenizer.ggml.model ${JSON.stringify(model ?? null)} is not supported: supported are gpt2 and rwkv`);
  const pre = preTokenizers.find(({ name }) => name === (value('pre') ?? 'gpt-2'));
  if (pre === undefined) throw new TokenizerError(`tokenizer.ggml.pre ${JSON.stringify(value('pre'))} is not supported: supported are ${preTokenizers.map(({ name }) => name).join(', ')}`);
  const types: readonly unknown[] = Array.isArray(value('token_type')) ? (value('token_type') as readonly unknown[]) : [];
  const merges = value('merges');
  if (!Array.isArray(merges)) throw new TokenizerError('tokenizer.ggml.merges is not a list');
  const isAdded = (id: number): boolean => types[id] === tokenTypes.control || types[id] === tokenTypes.userDefined;
  const textOf = (key: string): string | null => {
    const id = value(key);
    return typeof id === 'number' ? (tokens[id] ?? null) : null;
  };
  const [begin, end] = [textOf('bos_token_id'), textOf('eos_token_id')];
  const template = metadata.get('tokenizer.chat_template');
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false };
  return {
    tokenizer: {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: tokens.flatMap((content, id) =>
        isAdded(id) ? [{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: types[id] === tokenTypes.control }] : [],
      ),
      normalizer: null,
      pre_tokenizer: { type: 'Sequence', pretokenizers: [{ type: 'Split', pattern: { Regex: pre.pattern }, behavior: 'Isolated', invert: false }, byteLevel] },
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
        ignore_merges: pre.name === 'llama-bpe',
        vocab: Object.fromEntries(tokens.flatMap((text, id) => (isAdded(id) || types[id] === tokenTypes.unused ? [] : [[text, id] as const]))),
        merges,
      },
    },
    config: {
      tokenizer_class: 'PreTrainedTokenizerFast',
      model_max_length: modelMaxLength,
      clean_up_tokenization_spaces: false,
      ...(begin === null ? {} : { bos_token: begin }),
      ...(end === null ? {} : { eos_token: end }),
      ...(typeof template === 'string' ? { chat_template: template } : {}),
    },
  };
}

function charactersOf(tokens: readonly string[]): CharacterTokenizer {
  const texts = tokens.map(unescaped);
  if (!texts.every((text) => [...text].length === 1)) throw new TokenizerError('tokenizer.ggml.model rwkv is supported for characters only');
  return new CharacterTokenizer(texts);
}
