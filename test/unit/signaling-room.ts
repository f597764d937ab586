/** One room in a directory under a clock that the test turns; people are named, and know their own secrets. */
import { createHash } from 'node:crypto';
import { Directory, type Lease, type Outcome, type Refusal } from '../../signaling/directory.ts';

export const room = 'room-one';
export const token = 'token-of-the-room';
const address = '10.0.0.1';

export const peerOf = (who: string): string => `peer-${who}`;
export const holderOf = (who: string): string => `secret-of-${who}`;
export const hashOf = (who: string): string => createHash('sha256').update(holderOf(who)).digest('base64url');

/**
 * Where a command leaves something out, it is the room's term, step 0, nobody named, no memory to go on from, and no reign that
 * the directory has forgotten.
 */
interface Details {
  readonly term?: number;
  readonly step?: number;
  readonly isWarm?: boolean;
  readonly isReclaim?: boolean;
  readonly successor?: string | null;
  readonly sequence?: number;
}

export class TestRoom {
  readonly directory = new Directory();
  nowMs = 0;
  #renewals = 0;

  get lease(): Lease {
    const lease = this.directory.lookUp(room, this.nowMs);
    if (lease === null) throw new Error('there is no such room');
    return lease;
  }

  wait(ms: number): this {
    this.nowMs += ms;
    return this;
  }

  create(who: string, { term = 1, step = 0, isReclaim = false }: Details = {}): Outcome {
    const command = { type: 'create', coordinator: peerOf(who), holder: holderOf(who), term, step, isReclaim } as const;
    return this.directory.apply(room, token, address, command, this.nowMs);
  }

  renew(who: string, { term = this.lease.term, step = 0, successor = null, sequence = ++this.#renewals }: Details = {}): Outcome {
    const successorHash = successor === null ? null : hashOf(successor);
    const command = { type: 'renew', coordinator: peerOf(who), holder: holderOf(who), term, step, successorHash, sequence } as const;
    return this.directory.apply(room, token, address, command, this.nowMs);
  }

  takeOver(who: string, { term = this.lease.term, step = 0, isWarm = false }: Details = {}): Outcome {
    const command = { type: 'takeOver', coordinator: peerOf(who), holder: holderOf(who), expectedTerm: term, step, isWarm } as const;
    return this.directory.apply(room, token, address, command, this.nowMs);
  }

  release(who: string, { term = this.lease.term, step = 0 }: Details = {}): Outcome {
    return this.directory.apply(room, token, address, { type: 'release', holder: holderOf(who), term, step }, this.nowMs);
  }

  socketCloses(who: string): void {
    this.directory.socketClosed(peerOf(who), this.nowMs);
  }

  /** By a page that goes on from what its browser has saved. */
  claim(who: string, step: number): Answer {
    return answerOf(this.takeOver(who, { step }));
  }

  /** By a page that goes on from memory. */
  claimWarm(who: string, step: number): Answer {
    return answerOf(this.takeOver(who, { step, isWarm: true }));
  }

  /** Claims every second for so long, the first at once, the last at the end; whether it leads by then. */
  keepClaiming(who: string, step: number, forMs: number): boolean {
    const endMs = this.nowMs + forMs;
    for (; this.nowMs < endMs; this.nowMs = Math.min(endMs, this.nowMs + 1000)) if (this.claim(who, step) === 'led') return true;
    return this.claim(who, step) === 'led';
  }
}

/** `led`, or what the answer to a claim was instead. */
export type Answer = 'led' | Refusal | { readonly askAgainInMs: number };

function answerOf(outcome: Outcome): Answer {
  if (outcome.ok) return 'led';
  return outcome.retryInMs === null ? outcome.refusal : { askAgainInMs: outcome.retryInMs };
}

/** Ada leads at this step, and Ben is named where that is asked for. */
export function ledByAda(step: number, { named = false } = {}): TestRoom {
  const led = new TestRoom();
  led.create('ada');
  led.renew('ada', { step, successor: named ? 'ben' : null });
  return led;
}
