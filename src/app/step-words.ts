/** What a step costs, in words and sums: where its time goes, what limits the room, what was sent. No drawing. */
import type { RunSettings, SessionState } from '../session/types.ts';
import type { HistoryPoint } from './history-columns.ts';
import { codecInWords } from './settings-fields.ts';

export type Pace = NonNullable<SessionState['pace']>;
type Part = 'computeMs' | 'wayMs' | 'applyMs' | 'waitMs';

/** In the order of a step. */
export const parts: readonly { readonly part: Part; readonly name: string }[] = [
  { part: 'computeMs', name: 'computing' },
  { part: 'wayMs', name: 'on the way' },
  { part: 'applyMs', name: 'adding up' },
  { part: 'waitMs', name: 'keeping safe' },
];

export function stepMs(pace: Pace): number {
  return parts.reduce((sum, { part }) => sum + pace[part], 0);
}

/** The largest part, and what could be done about it. */
export function limitInWords(pace: Pace, { settings, workers }: { readonly settings: Pick<RunSettings, 'codec' | 'localSteps'> | null; readonly workers: number }): string {
  const largest = parts.reduce((best, { part }) => (pace[part] > pace[best] ? part : best), 'computeMs' as Part);
  const whom = pace.slowest ?? 'somebody';
  switch (largest) {
    case 'computeMs':
      return workers > 1
        ? `Computing limits this room: ${whom} is ready last most often. More or faster devices make steps shorter.`
        : 'Computing limits this room: more devices would share it.';
    case 'wayMs':
      return `The network limits this room: weights to ${whom} and gradients back take most of a step.${lessToSend(settings)}`;
    case 'applyMs':
      return 'Adding up limits this room: whoever leads takes longest to add the gradients and to update the weights. Larger steps need it less often.';
    case 'waitMs':
      return 'Keeping steps safe limits this room: each waits until whoever would lead next has it, too.';
  }
}

/** What a room made anew could do about it. */
function lessToSend(settings: Pick<RunSettings, 'codec' | 'localSteps'> | null): string {
  if (settings === null) return '';
  if (settings.codec === 'fp32' || settings.codec === 'bf16') return ' A room with fewer bits for each number (“Sent as”) would send less.';
  return settings.localSteps > 1 ? '' : ' A room with local steps would send less often, and learn a little less from each.';
}

/** Which codec, and why. */
export function sentAsInWords({ settings, sentAs }: Pick<SessionState, 'settings' | 'sentAs'>): string | null {
  if (settings === null) return null;
  if (settings.codec !== 'auto') return `${codecInWords(settings.codec)}, as chosen when the room was made`;
  if (sentAs === null) return null;
  const share = `${Math.round(100 * sentAs.wayShare)} %`;
  const why = {
    alone: 'there is nobody to send to',
    start: 'to begin with; the room looks how fast its network is',
    slow: `since step ${sentAs.since}, when the network took ${share} of a step`,
    quick: `since step ${sentAs.since}, when the network took only ${share} of a step`,
  }[sentAs.why];
  return `${codecInWords(sentAs.codec)} – ${why}`;
}

/** "2.8 times as fast as you alone", or null while either is not known or there is nobody else. */
export function togetherInWords({ tokensPerSecond, ownTokensPerSecond, peers, role }: Pick<SessionState, 'tokensPerSecond' | 'ownTokensPerSecond' | 'peers' | 'role'>): string | null {
  const workers = peers.filter((peer) => peer.role !== 'watcher').length;
  if (workers < 2 || role === 'watcher' || tokensPerSecond <= 0 || ownTokensPerSecond <= 0) return null;
  const ratio = tokensPerSecond / ownTokensPerSecond;
  return ratio >= 1 ? `${ratio.toFixed(1)} times as fast as you alone` : `slower than you alone, at ${Math.round(100 * ratio)} %`;
}

export interface Sent {
  /** From members to whoever leads; of the newest steps, on the mean. */
  readonly upPerStep: number;
  readonly downPerStep: number;
  readonly inAll: number;
}

/** How many of the newest steps make a mean. */
const meanOf = 20;

/** Keeps the sum of what it has seen, since a history may have a hundred thousand points and only grows at its end. */
export class SentSoFar {
  #newest: HistoryPoint | null = null;
  #points = 0;
  #bytes = 0;

  of(history: readonly HistoryPoint[]): Sent {
    const isLonger = this.#newest !== null && history[this.#points - 1]?.replicaHash === this.#newest.replicaHash;
    if (!isLonger) [this.#points, this.#bytes] = [0, 0];
    for (; this.#points < history.length; this.#points += 1) this.#bytes += sent(history[this.#points]);
    this.#newest = history.at(-1) ?? null;
    const last = history.slice(-meanOf);
    const mean = (of: 'bytesUp' | 'bytesDown'): number => last.reduce((sum, point) => sum + point[of], 0) / Math.max(last.length, 1);
    return { upPerStep: mean('bytesUp'), downPerStep: mean('bytesDown'), inAll: this.#bytes };
  }
}

function sent(point: HistoryPoint | undefined): number {
  return point === undefined ? 0 : point.bytesUp + point.bytesDown;
}
