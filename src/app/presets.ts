/** What the landing page says about each preset. The texts and settings themselves belong to the session. */
import type { PresetId } from '../session/types.ts';

export interface PresetCard {
  readonly id: PresetId;
  readonly title: string;
  /** The beginning of its text, one character to a square; null for a person's own. */
  readonly specimen: string | null;
  readonly description: string;
}

export const presetCards: readonly PresetCard[] = [
  {
    id: 'repeated-pattern',
    title: 'Repeated pattern',
    specimen: 'abcabcabcabcabcabcabcabcabcabc',
    description: 'Three characters in a cycle. The first thing a model can learn, in under a minute.',
  },
  {
    id: 'tiny-rhyme',
    title: 'Tiny rhyme',
    specimen: null,
    description: 'One line of eleven distinct characters, learned by heart. Watch spelling appear in the samples.',
  },
  {
    id: 'counting-list',
    title: 'Counting list',
    specimen: '0123456789 0123456789 01234567',
    description: 'Ten digits and a blank. Shows how a model finds out what always follows what.',
  },
  {
    id: 'moby-dick',
    title: 'Moby-Dick, by character',
    specimen: 'Call me Ishmael. Some years ago',
    description: 'A whole novel and about 0.9 million parameters. Real learning, better with several machines.',
  },
  {
    id: 'own-text',
    title: 'Your own text',
    specimen: null,
    description: 'Paste or drop a text; the model learns to continue it. Who joins gets pieces of it to compute with.',
  },
];
