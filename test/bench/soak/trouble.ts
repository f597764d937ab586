/**
 * What befalls the room of a soak, drawn from a seed: a browser dies, a tab is closed or reloaded, somebody joins. Waits each time
 * for the room's next step as the observer sees it, and says how long that took.
 */
import type { PageStatus } from '../../../src/session/page-api.ts';
import { hasSuccessor } from '../../e2e/browser-room.ts';
import type { BrowserPeer, BrowserRoom } from '../../e2e/browser-room.ts';
import { statusOf, statusWhen } from '../../e2e/support.ts';
import type { Random } from '../../room/random.ts';

/** What happened, and to whom: a leader's end is a hand-off. */
export type TroubleKind = 'joined' | `${'killed' | 'closed' | 'reloaded'} ${'the leader' | 'a member'}`;

export interface Trouble {
  readonly kind: TroubleKind;
  readonly who: string;
  /** Until a step that the observer had not seen before; after a leader's end, of another leader. */
  readonly nextStepMs: number;
  readonly after: PageStatus;
}

export interface Ground {
  readonly room: BrowserRoom;
  /** Is always there, and only watches. */
  readonly observer: BrowserPeer;
  /** That compute; one more or one fewer at times. */
  readonly workers: number;
  readonly random: Random;
}

const patienceMs = 60_000;
const joinsThough = 0.2;
const fellsLeader = 0.5;

/** Throws when the room is not itself again within a minute, before or after. */
export async function makeTrouble({ room, observer, workers, random }: Ground): Promise<Trouble> {
  // Where nobody could follow yet, what a leader takes along is computed again, by design.
  const before = await statusWhen(observer.page, 'running, somebody ready to follow', (status) => status.phase === 'running' && hasSuccessor(status), patienceMs);
  const working = room.peers.filter((peer) => peer !== observer);
  const startedMs = performance.now();
  const until = async (kind: TroubleKind, who: string, isHandOff: boolean): Promise<Trouble> => {
    const isOver = ({ step, term }: PageStatus): boolean => step > before.step && (!isHandOff || term > before.term);
    const after = await statusWhen(observer.page, `a step after ${who} was ${kind}`, isOver, patienceMs);
    return { kind, who, nextStepMs: performance.now() - startedMs, after };
  };
  if (working.length < workers || (working.length === workers && random.chance(joinsThough))) {
    const { name } = await room.another();
    return until('joined', name, false);
  }
  const leader = await leaderAmong(working);
  const victim = leader !== undefined && random.chance(fellsLeader) ? leader : random.pick(working);
  const whom = victim === leader ? 'the leader' : 'a member';
  const how = random.pick(['killed', 'closed', 'reloaded'] as const);
  if (how === 'killed') room.kill(victim);
  else if (how === 'reloaded') await victim.page.reload();
  else {
    await victim.page.close();
    await room.dismiss(victim);
  }
  return until(`${how} ${whom}`, victim.name, victim === leader);
}

async function leaderAmong(working: readonly BrowserPeer[]): Promise<BrowserPeer | undefined> {
  const roles = await Promise.all(working.map(async ({ page }) => (await statusOf(page)).role));
  return working[roles.indexOf('coordinator')];
}
