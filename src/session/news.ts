/**
 * What has just happened in the room, in plain words: who came and went, and who leads now. Watches the tables of peers as
 * they change; shows nothing itself.
 */
import type { RoomView } from '../room/machine.ts';
import { hasLeft } from '../room/membership.ts';
import type { GonePeer, PeerRow } from '../room/messages.ts';
import { rulesInWords } from './rules.ts';
import type { RunSettings } from './types.ts';

/** After a hand-off everybody connects anew: who is missing then has not left. */
const reunionMs = 8_000;

interface Reign {
  readonly term: number;
  /** Steps that were known to be done before. */
  readonly stepBefore: number;
  /** Where the new leader was when this page heard of it. */
  readonly fromStep: number;
}

export class RoomNews {
  #peers: readonly PeerRow[] = [];
  #term = 0;
  #step = 0;
  #revision = 0;
  #reign: Reign | null = null;
  /** Until then the table is compared with the one before the hand-off. */
  #reunionUntilMs = 0;

  /** What is new since the last look. The first table is no news, and neither is oneself. */
  observe(view: Pick<RoomView, 'term' | 'step' | 'peers' | 'gone' | 'self' | 'rules' | 'areRulesInForce'>, nowMs: number, settings: RunSettings | null = null): readonly string[] {
    return [...this.#ownersNews(view, settings), ...this.#peersNews(view, nowMs)];
  }

  /** The rules that a page finds when it comes are no news. */
  #ownersNews({ term, rules, areRulesInForce }: Pick<RoomView, 'term' | 'rules' | 'areRulesInForce'>, settings: RunSettings | null): readonly string[] {
    if (!areRulesInForce) return [];
    const isNews = this.#term > 0 && rules.revision > this.#revision;
    if (term > 0) this.#revision = rules.revision;
    const text = isNews ? rulesInWords(rules, settings) : null;
    return text === null ? [] : [text];
  }

  #peersNews({ term, step, peers, gone, self }: Pick<RoomView, 'term' | 'step' | 'peers' | 'gone' | 'self'>, nowMs: number): readonly string[] {
    if (this.#term > 0 && term > this.#term) {
      this.#reign = { term, stepBefore: this.#step, fromStep: step };
      this.#reunionUntilMs = nowMs + reunionMs;
    }
    this.#term = term;
    this.#step = step;
    const led = this.#leaderNews(peers, self);
    if (nowMs < this.#reunionUntilMs) return led;
    const moved = comingsAndGoings(this.#peers, peers, self, gone);
    this.#peers = peers;
    return [...led, ...moved];
  }

  /** Said once the new leader's table names it. */
  #leaderNews(peers: readonly PeerRow[], self: string | null): readonly string[] {
    const before = leaderOf(this.#peers);
    const after = leaderOf(peers);
    if (this.#reign === null || after === undefined || after.id === before?.id) return [];
    const { stepBefore, fromStep } = this.#reign;
    this.#reign = null;
    // Who led before and is no longer there will not be said to have left: this says it.
    const isGone = before !== undefined && !peers.some((row) => row.id === before.id || row.name === before.name);
    this.#peers = this.#peers.filter((row) => row.id !== before?.id);
    const gone = isGone && before.id !== self ? `${before.name} is gone; ` : '';
    const leads = after.id === self ? 'you lead' : `${after.name} leads`;
    const lost = fromStep >= stepBefore ? 'nothing was lost' : `${stepsBetween(fromStep, stepBefore)} computed again`;
    const text = `${gone}${leads} from step ${fromStep}; ${lost}.`;
    return [text.charAt(0).toUpperCase() + text.slice(1)];
  }
}

function stepsBetween(from: number, to: number): string {
  return to - from === 1 ? `step ${from} is` : `steps ${from} to ${to - 1} are`;
}

function leaderOf(peers: readonly PeerRow[]): PeerRow | undefined {
  return peers.find((row) => row.role === 'coordinator');
}

/** Who came and who went between two tables. People are told by their names: after a hand-off or a reload they have other ids. */
export function comingsAndGoings(before: readonly PeerRow[], after: readonly PeerRow[], self: string | null, gone: readonly GonePeer[] = []): string[] {
  if (before.length === 0) return [];
  const has = (rows: readonly PeerRow[], { id, name }: PeerRow): boolean => rows.some((row) => row.id === id || row.name === name);
  const joined = after
    .filter((row) => !has(before, row) && row.id !== self)
    .map((row) => `${row.name} joined${row.role === 'watcher' ? ' to watch' : ''}.`);
  const left = before.filter((row) => !has(after, row) && row.id !== self).map(({ name }) => {
    const reason = gone.find((each) => each.name === name)?.reason;
    return reason === undefined || reason === hasLeft ? `${name} left.` : `${name} is gone: ${reason}.`;
  });
  return [...joined, ...left];
}
