/** The text of a preset: built in, served beside the page, or given by the person. Reads; does not tokenize. */
import { presetById } from '../data/presets.ts';
import { problem } from './problems.ts';
import { RunError } from './run.ts';
import type { CreateSettings } from './types.ts';

const fetched = new Map<string, Promise<string>>();

async function fetchText(path: string): Promise<string> {
  const response = await fetch(new URL(path, document.baseURI));
  if (!response.ok) throw new Error(`status ${response.status}`);
  return response.text();
}

/** Throws `RunError` when the server does not answer with the text. */
export async function textOf(settings: CreateSettings): Promise<string> {
  const { text } = presetById(settings.preset);
  switch (text.kind) {
    case 'inline':
      return text.text;
    case 'given':
      return (settings.text ?? '').replaceAll('\r\n', '\n');
    case 'asset': {
      const pending = fetched.get(text.path) ?? fetchText(text.path);
      fetched.set(text.path, pending);
      try {
        return await pending;
      } catch (error) {
        fetched.delete(text.path);
        const reason = error instanceof Error ? error.message : String(error);
        throw new RunError(problem('corpus-unreachable', `The text of this preset could not be fetched (${reason}).`));
      }
    }
  }
}
