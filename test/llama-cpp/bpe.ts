/** A byte-level BPE tokenizer with a few merges, made by hand in Hugging Face's form, and texts that try it. */
import type { TokenizerFiles } from '../../src/data/tokenizer-files.ts';

/** GPT-2's characters for bytes: printable ones are themselves, the others follow from U+0100. */
function byteCharacters(): readonly string[] {
  const isPrintable = (byte: number): boolean => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(isPrintable(byte) ? byte : next++));
}

const endOfText = '<|endoftext|>';
const merges = ['h e', 'l l', 'he ll', 'hell o', 'Ġ t', 'Ġt he', 'i n', 'in g', 'Ġ w', 'Ġw o', 'o r', 'Ġwo r', 'Ġwor l', 'Ġworl d', 'Ã ©', 'Ċ Ċ', 'Ġ Ġ', 'ĠĠ ĠĠ', '1 2', 'e r', "' s", 'ð Ł'];

const vocabulary = new Map([...byteCharacters().map((text, byte) => [text, byte] as const), [endOfText, 256] as const]);
for (const merge of merges) vocabulary.set(merge.replace(' ', ''), vocabulary.size);

export const bpeFiles: TokenizerFiles = {
  tokenizer: {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [{ id: 256, content: endOfText, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true }],
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: '',
      end_of_word_suffix: '',
      fuse_unk: false,
      byte_fallback: false,
      vocab: Object.fromEntries([...vocabulary].filter(([text]) => text !== endOfText)),
      merges,
    },
  },
  config: { tokenizer_class: 'PreTrainedTokenizerFast', eos_token: endOfText, model_max_length: 128, clean_up_tokenization_spaces: false },
};

export const bpeTexts: readonly string[] = [
  'hello',
  'hello the world',
  '  two spaces, then    four',
  "it's John's, they'll say, and I'D",
  'line\n\nline\n \n  line',
  'tab\tand\r\nreturn',
  'trailing spaces   ',
  'café, éé, naïve',
  '日本語 and русский',
  '🙂🙃 👩‍👩‍👧',
  '12 1234 12.5e-3 ½ ²',
  'the the thethe',
  'ing inging sing',
  '!!!???... --- ___',
  'x=y+z; if (a<b) { return; }',
  'a\u00A0b\u2003c\u200Bd',
  'ﬁ Å e\u0301',
  '\\n \\x41 "quoted"',
  'MiXeD CaSe WORDS',
  ' ',
];
