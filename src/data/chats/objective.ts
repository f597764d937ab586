/**
 * What a run scores, as data: how much the loss counts that each token brings. Only the wish; how it is laid over text and
 * tokens is done in `weights.ts`.
 */
import * as v from 'valibot';

export const roles = ['system', 'user', 'assistant', 'tool'] as const;
export type Role = (typeof roles)[number];

/** Heavier than anything sensible, and far from what would overflow a sum. */
const heaviest = 1000;
const weight = v.pipe(v.number(), v.finite(), v.minValue(0), v.maxValue(heaviest));

/**
 * `everything`: each token counts 1, a template's own words too. `assistant`: what the assistant says counts 1, with the token that
 * ends its turn, and all else 0. `weights`: what a role says, with the token that ends its turn, counts `byRole`; within what the
 * assistant says, and within plain text, whatever lies from an `open` to the next `close` counts that delimiter's weight, both
 * included (to the end where it is never closed); all else counts `default`.
 */
export const objectiveSchema = v.variant('kind', [
  v.strictObject({ kind: v.literal('everything') }),
  v.strictObject({ kind: v.literal('assistant') }),
  v.strictObject({
    kind: v.literal('weights'),
    default: v.optional(weight, 0),
    byRole: v.optional(
      v.strictObject({ system: v.exactOptional(weight), user: v.exactOptional(weight), assistant: v.exactOptional(weight), tool: v.exactOptional(weight) }),
      {},
    ),
    byDelimiters: v.optional(
      v.pipe(v.array(v.strictObject({ open: v.pipe(v.string(), v.minLength(1)), close: v.pipe(v.string(), v.minLength(1)), weight })), v.maxLength(32)),
      [],
    ),
  }),
]);

export type Objective = v.InferOutput<typeof objectiveSchema>;

export const everything: Objective = { kind: 'everything' };

export interface Delimiter {
  readonly open: string;
  readonly close: string;
  readonly weight: number;
}

/** The same for all kinds: what counts how much before the data's own weights. */
export interface Weighting {
  /** Of a template's words, and of plain text. */
  readonly elsewhere: number;
  /** Of plain text. */
  readonly ofText: number;
  readonly ofRole: Readonly<Record<Role, number>>;
  readonly delimiters: readonly Delimiter[];
}

export function weightingOf(objective: Objective): Weighting {
  switch (objective.kind) {
    case 'everything':
      return { elsewhere: 1, ofText: 1, ofRole: { system: 1, user: 1, assistant: 1, tool: 1 }, delimiters: [] };
    case 'assistant':
      return { elsewhere: 0, ofText: 1, ofRole: { system: 0, user: 0, assistant: 1, tool: 0 }, delimiters: [] };
    case 'weights': {
      const { default: otherwise, byRole, byDelimiters } = objective;
      const ofRole = { system: otherwise, user: otherwise, assistant: otherwise, tool: otherwise, ...byRole };
      return { elsewhere: otherwise, ofText: otherwise, ofRole, delimiters: byDelimiters };
    }
  }
}
