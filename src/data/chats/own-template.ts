/** Which template conversations are written in: the model's own, where its folder has one, else ChatML. Reads no files itself. */
import { DataError } from '../errors.ts';
import type { Tokenizer } from '../tokenizer.ts';
import { chatMl } from './template.ts';
import type { ChatTemplate, SpecialTexts } from './template.ts';
import { isRecord } from '../records.ts';

const specialNames = ['bos_token', 'eos_token', 'unk_token', 'pad_token', 'sep_token', 'cls_token', 'mask_token'] as const;

export interface TemplateFiles {
  /** Parsed `tokenizer_config.json`; null where there is none. */
  readonly tokenizerConfig: unknown;
  /** Text of `chat_template.jinja`, which newer folders have instead; null where there is none. */
  readonly chatTemplate: string | null;
}

/** Throws `DataError` where the template can't be used, or conversations can't be written for this tokenizer. */
export async function openTemplate(tokenizer: Tokenizer, files: TemplateFiles | null): Promise<ChatTemplate> {
  const config = isRecord(files?.tokenizerConfig) ? files.tokenizerConfig : {};
  const own = files?.chatTemplate ?? null;
  const source = own ?? sourceOf(config['chat_template']);
  if (source === null) return chatMl(tokenizer);
  const { jinjaTemplate } = await import('./jinja-template.ts');
  return jinjaTemplate(source, specialTexts(config), tokenizer, own === null ? 'tokenizer_config.json' : 'chat_template.jinja');
}

/** One template, or several with names. */
function sourceOf(value: unknown): string | null {
  if (value === undefined || value === null) return null;
  if (typeof value === 'string') return value;
  const named = Array.isArray(value) ? value.filter(isRecord) : [];
  const chosen = named.find(({ name }) => name === 'default') ?? named[0];
  if (typeof chosen?.['template'] === 'string') return chosen['template'];
  throw new DataError('tokenizer_config.json: chat_template is neither a text nor a list of templates with names');
}

/** Each is a text, or an object that has it as `content`. */
function specialTexts(config: Readonly<Record<string, unknown>>): SpecialTexts {
  return Object.fromEntries(
    specialNames.flatMap((name): (readonly [string, string])[] => {
      const value = config[name];
      const text = isRecord(value) ? value['content'] : value;
      return typeof text === 'string' ? [[name, text]] : [];
    }),
  );
}
