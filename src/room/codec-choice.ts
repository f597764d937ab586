/**
 * In which codec a room sends, where that is left to it: as exact as the network allows without holding training up. What the codecs are
 * is not known here, but how many bytes they take. Pure.
 */
import type { Step } from './messages.ts';
import type { RoomCodec } from './values.ts';

/** Bytes of an element. */
const elementBytes: Readonly<Record<RoomCodec, number>> = { fp32: 4, bf16: 2, int8: 65 / 64, int2: 17 / 64 };

/**
 * Of a member's time, how much the way of weights and gradients may take before the next codec is worth what it rounds off: next to nothing
 * in eight bits, about a hundredth of the loss in two (docs/DECISIONS.md).
 */
const worthwhileShare: Readonly<Record<RoomCodec, number>> = { fp32: 0.1, bf16: 0.1, int8: 0.3, int2: 1 };

/** A finer codec is taken where it would take this much of what would end it again. */
const comfortable = 1 / 3;

/** Until what was measured is of the present codec, and until somebody who is alone has been so for long enough to count as it. */
const settleSteps = 10;

export interface SentAs {
  readonly codec: RoomCodec;
  /** `alone`: there is nobody to send to; `start`: nothing is measured yet; `slow` and `quick`: as the network turned out to be. */
  readonly why: 'alone' | 'start' | 'slow' | 'quick';
  /** Of a member's time, what the way took when this was chosen. */
  readonly wayShare: number;
  readonly since: Step;
}

export interface Circumstances {
  /** Those that the room may take, from the most exact down. */
  readonly codecs: readonly RoomCodec[];
  /** As in `Pace`. */
  readonly wayShare: number | null;
  readonly hasMembers: boolean;
  /** Steps begun since the last member was gone. */
  readonly aloneSteps: number;
  readonly step: Step;
}

/** Null where there is nothing to choose. */
export function nextSentAs(given: SentAs | null, { codecs, wayShare, hasMembers, aloneSteps, step }: Circumstances): SentAs | null {
  const [finest, second] = codecs;
  if (finest === undefined || second === undefined) return null;
  const before = given !== null && codecs.includes(given.codec) ? given : null;
  if (!hasMembers) {
    const isAlone = before === null || (before.why !== 'alone' && aloneSteps >= settleSteps);
    return isAlone ? { codec: finest, why: 'alone', wayShare: 0, since: step } : before;
  }
  if (before === null || before.why === 'alone') return { codec: second, why: 'start', wayShare: 0, since: step };
  if (wayShare === null || step - before.since < settleSteps) return before;
  const { codec } = before;
  const at = codecs.indexOf(codec);
  const [finer, coarser] = [codecs[at - 1], codecs[at + 1]];
  if (coarser !== undefined && wayShare > worthwhileShare[codec]) return { codec: coarser, why: 'slow', wayShare, since: step };
  if (finer !== undefined && shareOf(wayShare, elementBytes[finer] / elementBytes[codec]) < comfortable * worthwhileShare[finer]) {
    return { codec: finer, why: 'quick', wayShare, since: step };
  }
  return before;
}

/** If as many times the bytes were sent, and all of the way's time were theirs. */
function shareOf(wayShare: number, times: number): number {
  return (wayShare * times) / (wayShare * times + 1 - wayShare);
}

/** What a room may choose between: a run that asks for one codec has no choice, and two bits are for local steps. */
export function roomCodecs(codec: RoomCodec | 'auto', localSteps: number): readonly RoomCodec[] {
  if (codec !== 'auto') return [];
  return localSteps > 1 ? ['fp32', 'int8', 'int2'] : ['fp32', 'int8'];
}
