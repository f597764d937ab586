/**
 * What the room's owner has decided: one object that whoever leads keeps, everybody is told of and heirs save. Each command of
 * the owner makes the next revision of it. Pure; that a command is really the owner's is checked by the session (session/owner.ts),
 * when it takes effect is decided in `owner.ts`.
 */
import * as v from 'valibot';
import { count, holderHash, longestRunSteps, peerId, peerName, step } from './values.ts';
import type { Step } from './values.ts';

export const maxTitleLength = 120;
/** A room in which more have to be removed had better renew its key. */
export const maxRemoved = 200;
export const maxChanges = 200;
/** Whoever gave one of these may still wait to hear of it. */
const maxOrders = 8;

const title = v.pipe(v.string(), v.minLength(1), v.maxLength(maxTitleLength));

/** The secret in a room's link. */
export const roomKey = v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{20,128}$/));

/** `former`: the one before, by which the directory may still know the room; null: there was none. */
export interface RoomKeys {
  readonly current: string;
  readonly former: string | null;
}

/** As in the run file. */
const scheduleValues = {
  learningRate: v.exactOptional(v.pipe(v.number(), v.minValue(1e-9), v.maxValue(10))),
  minLearningRate: v.exactOptional(v.pipe(v.number(), v.minValue(0), v.maxValue(10))),
  steps: v.exactOptional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(longestRunSteps))),
};

/** In a step's history: from that step on these values hold. `by`: who wanted it. */
export const changeSchema = v.object({ ...scheduleValues, by: peerName });
export type Change = v.InferOutput<typeof changeSchema>;

const datedChange = v.object({ ...changeSchema.entries, step });
/** Of the run's schedule, in the order of their steps. */
export const datedChangesSchema = v.pipe(v.array(datedChange), v.maxLength(maxChanges));
export type DatedChange = v.InferOutput<typeof datedChange>;

export const ownerCommandSchema = v.variant('kind', [
  v.object({ kind: v.literal('rename'), title }),
  /** What is left out stays as it is. Takes effect with the next step that is not begun. */
  v.object({ kind: v.literal('schedule'), ...scheduleValues }),
  v.object({ kind: v.literal('remove'), peer: peerId }),
  /** This peer is to lead, as soon as it has everything. */
  v.object({ kind: v.literal('handOver'), peer: peerId }),
  /** `former`: as it was until now. */
  v.object({ kind: v.literal('renewKey'), key: roomKey, former: roomKey }),
  v.object({ kind: v.literal('close') }),
]);
export type OwnerCommand = v.InferOutput<typeof ownerCommandSchema>;

/** A command as it travels: its JSON text is what is signed, with the room and the revision that it makes. */
export const signedCommandSchema = v.object({
  revision: count,
  command: v.pipe(v.string(), v.maxLength(1000)),
  /** ECDSA P-256 with SHA-256, base64url. */
  signature: v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{86}$/)),
});
export type SignedCommand = v.InferOutput<typeof signedCommandSchema>;

/** Tells an order from every other one, also from one that wants the same under the same revision. */
const orderId = v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{16}$/));

export function orderOf({ signature }: SignedCommand): string {
  return signature.slice(0, 16);
}

export const roomRulesSchema = v.object({
  /** Grows with every command, so that none is carried out twice. 0: the owner has decided nothing. */
  revision: count,
  /** The newest that were carried out, so that whoever gave one knows it from another that came first. */
  orders: v.optional(v.pipe(v.array(orderId), v.maxLength(maxOrders)), []),
  /** Null: as the run is called. */
  title: v.nullable(title),
  changes: datedChangesSchema,
  /** Null: as when the room was made. */
  keys: v.nullable(v.object({ current: roomKey, former: roomKey })),
  /** Browsers that are not let in. */
  removed: v.pipe(v.array(holderHash), v.maxLength(maxRemoved)),
  /** Nobody leads it any more until its owner opens it again. */
  isClosed: v.boolean(),
  /** What the newest revision was about, for the log: a title, or the name of a peer. */
  latest: v.nullable(
    v.object({
      kind: v.picklist(['rename', 'schedule', 'remove', 'handOver', 'renewKey', 'close', 'reopen']),
      by: peerName,
      about: v.pipe(v.string(), v.maxLength(maxTitleLength)),
    }),
  ),
});
export type RoomRules = v.InferOutput<typeof roomRulesSchema>;

export const noRules: RoomRules = { revision: 0, orders: [], title: null, changes: [], keys: null, removed: [], isClosed: false, latest: null };

export function withOrder(rules: Omit<RoomRules, 'revision'>, revision: number, order: string): RoomRules {
  return { ...rules, revision, orders: [...rules.orders, order].slice(-maxOrders) };
}

/** The owner leads a room again that was closed. */
export function reopened(rules: RoomRules, by: string): RoomRules {
  if (!rules.isClosed) return rules;
  return { ...rules, revision: rules.revision + 1, isClosed: false, latest: { kind: 'reopen', by, about: '' } };
}

/**
 * For whoever begins at `step` of this history: the rules may be of another branch of the run, on which steps were made anew. What
 * was in force when this history's steps were made is what its own points say; and what the rules want by now holds from here on.
 */
export function fromStep(rules: RoomRules, history: readonly { readonly step: number; readonly change?: Change }[], step: Step): RoomRules {
  const made = history.flatMap(({ step: at, change }): DatedChange[] => (change === undefined || at >= step ? [] : [{ ...change, step: at as Step }]));
  const wanted = rules.changes.filter((change) => change.step < step);
  if (made.length === wanted.length && made.every((change, index) => isSame(change, wanted[index]))) return rules;
  const isMade = (change: DatedChange): boolean => made.some((each) => isSame(each, change));
  const due = wanted.every(isMade) ? rules.changes.filter((change) => change.step === step) : rules.changes.filter((change) => change.step <= step);
  const merged = due.length === 0 ? [] : [{ ...due.reduce((earlier, later) => ({ ...earlier, ...later })), step }];
  return { ...rules, changes: [...made, ...merged, ...rules.changes.filter((change) => change.step > step)].slice(-maxChanges) };
}

function isSame(one: DatedChange, other: DatedChange | undefined): boolean {
  const parts = ['step', 'learningRate', 'minLearningRate', 'steps', 'by'] as const;
  return parts.every((part) => one[part] === other?.[part]);
}

/** How many steps the run has now that began with so many. */
export function stepsOf({ changes }: RoomRules, steps: number): number {
  return changes.findLast((change) => change.steps !== undefined)?.steps ?? steps;
}

/** What the history says of this step beside what was measured. */
export function changeAt({ changes }: RoomRules, at: Step): { readonly change?: Change } {
  const found = changes.findLast(({ step }) => step === at);
  if (found === undefined) return {};
  const { step: _, ...change } = found;
  return { change };
}
