/** The directory's leases: who may lead, when, and that never two tabs hold one term. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Directory, leaseMs, roomLifetimeMs, type Command, type Outcome } from '../../signaling/directory.ts';

const room = 'room-one';
const token = 'token-of-the-room';

function create(directory: Directory, nowMs: number, holder = 'holder-a'): Outcome {
  return directory.apply(room, token, '10.0.0.1', { type: 'create', coordinator: 'peer-a', holder, term: 1 }, nowMs);
}

describe('a room’s lease', () => {
  it('is given to whoever creates the room, under term 1, and is seen by others', () => {
    const directory = new Directory();
    expect(create(directory, 0)).toEqual({ ok: true, lease: { coordinator: 'peer-a', term: 1, expiresInMs: leaseMs } });
    expect(directory.lookUp(room, 4000)).toEqual({ coordinator: 'peer-a', term: 1, expiresInMs: leaseMs - 4000 });
  });

  it('is not given twice', () => {
    const directory = new Directory();
    create(directory, 0);
    expect(create(directory, 1, 'holder-b')).toMatchObject({ ok: false, refusal: 'exists', lease: { coordinator: 'peer-a' } });
  });

  it('can be taken over when it has run out, not a millisecond before', () => {
    const directory = new Directory();
    create(directory, 0);
    const takeOver: Command = { type: 'takeOver', coordinator: 'peer-b', holder: 'holder-b', expectedTerm: 1 };
    expect(directory.apply(room, token, '', takeOver, leaseMs - 1)).toMatchObject({ ok: false, refusal: 'held' });
    expect(directory.apply(room, token, '', takeOver, leaseMs)).toMatchObject({ ok: true, lease: { coordinator: 'peer-b', term: 2 } });
  });

  it('goes to the first of two who saw it run out, even when it is free again by the time the second asks', () => {
    const directory = new Directory();
    create(directory, 0);
    const takeOver = (name: string): Command => ({ type: 'takeOver', coordinator: `peer-${name}`, holder: `holder-${name}`, expectedTerm: 1 });
    expect(directory.apply(room, token, '', takeOver('b'), leaseMs)).toMatchObject({ ok: true, lease: { term: 2 } });
    expect(directory.apply(room, token, '', takeOver('c'), leaseMs * 3)).toMatchObject({ ok: false, refusal: 'stale-term', lease: { coordinator: 'peer-b', term: 2 } });
  });

  it('is its holder’s at once after a reload, under a new term', () => {
    const directory = new Directory();
    create(directory, 0);
    const again: Command = { type: 'takeOver', coordinator: 'peer-a2', holder: 'holder-a', expectedTerm: 1 };
    expect(directory.apply(room, token, '', again, 10)).toMatchObject({ ok: true, lease: { coordinator: 'peer-a2', term: 2 } });
  });

  it('goes on with renewals, and a renewal carries a changed peer id', () => {
    const directory = new Directory();
    create(directory, 0);
    const renew: Command = { type: 'renew', coordinator: 'peer-a-later', holder: 'holder-a', term: 1 };
    expect(directory.apply(room, token, '', renew, 9000)).toMatchObject({ ok: true });
    expect(directory.lookUp(room, 18_000)).toEqual({ coordinator: 'peer-a-later', term: 1, expiresInMs: 1000 });
  });

  it('can be renewed late as long as nobody has taken over', () => {
    const directory = new Directory();
    create(directory, 0);
    const renew: Command = { type: 'renew', coordinator: 'peer-a', holder: 'holder-a', term: 1 };
    expect(directory.apply(room, token, '', renew, leaseMs * 3)).toMatchObject({ ok: true, lease: { term: 1 } });
  });

  it('once released is free at once and not renewable', () => {
    const directory = new Directory();
    create(directory, 0);
    expect(directory.apply(room, token, '', { type: 'release', holder: 'holder-a', term: 1 }, 5)).toMatchObject({ ok: true, lease: { expiresInMs: 0 } });
    const renew: Command = { type: 'renew', coordinator: 'peer-a', holder: 'holder-a', term: 1 };
    expect(directory.apply(room, token, '', renew, 6)).toMatchObject({ ok: false, refusal: 'released' });
    const takeOver: Command = { type: 'takeOver', coordinator: 'peer-b', holder: 'holder-b', expectedTerm: 1 };
    expect(directory.apply(room, token, '', takeOver, 6)).toMatchObject({ ok: true, lease: { term: 2 } });
  });

  it('cannot be renewed or released by somebody who knows the room’s key but not the holder’s secret', () => {
    const directory = new Directory();
    create(directory, 0);
    for (const command of [
      { type: 'renew', coordinator: 'peer-b', holder: 'holder-b', term: 1 },
      { type: 'release', holder: 'holder-b', term: 1 },
    ] as const) {
      expect(directory.apply(room, token, '', command, 1)).toMatchObject({ ok: false, refusal: 'held' });
    }
  });

  it('cannot be touched without the room’s token', () => {
    const directory = new Directory();
    create(directory, 0);
    for (const command of [
      { type: 'create', coordinator: 'peer-a', holder: 'holder-a', term: 1 },
      { type: 'renew', coordinator: 'peer-a', holder: 'holder-a', term: 1 },
      { type: 'takeOver', coordinator: 'peer-a', holder: 'holder-a', expectedTerm: 1 },
      { type: 'release', holder: 'holder-a', term: 1 },
    ] as const) {
      expect(directory.apply(room, 'another token', '', command, 1)).toEqual({ ok: false, refusal: 'forbidden', lease: null });
    }
  });

  it('is forgotten with its room after a day of silence, and the room can come back under its old term', () => {
    const directory = new Directory();
    create(directory, 0);
    expect(directory.lookUp(room, roomLifetimeMs - 1)).not.toBeNull();
    expect(directory.lookUp(room, roomLifetimeMs)).toBeNull();
    directory.sweep(roomLifetimeMs);
    expect(directory.size).toBe(0);
    const back: Command = { type: 'create', coordinator: 'peer-a', holder: 'holder-a', term: 7 };
    expect(directory.apply(room, token, '', back, roomLifetimeMs)).toMatchObject({ ok: true, lease: { term: 7 } });
  });
});

describe('the directory', () => {
  it('refuses rooms past its limit and past one address’s share, and takes new ones when old ones have died', () => {
    const directory = new Directory({ maxRooms: 3, maxRoomsPerAddress: 2 });
    const add = (id: string, from: string, nowMs: number): boolean =>
      directory.apply(id, token, from, { type: 'create', coordinator: 'p', holder: 'h', term: 1 }, nowMs).ok;
    expect([add('a', 'x', 0), add('b', 'x', 0), add('c', 'x', 0), add('c', 'y', 0), add('d', 'y', 0)]).toEqual([true, true, false, true, false]);
    expect(add('d', 'y', roomLifetimeMs)).toBe(true);
  });

  it('never gives one term to two holders, and never lets a term fall, whatever is asked in whatever order', () => {
    const holder = fc.constantFrom('h1', 'h2', 'h3');
    const term = fc.integer({ min: 1, max: 6 });
    const command: fc.Arbitrary<Command> = fc.oneof(
      fc.record({ type: fc.constant('create' as const), coordinator: holder, holder, term }),
      fc.record({ type: fc.constant('renew' as const), coordinator: holder, holder, term }),
      fc.record({ type: fc.constant('takeOver' as const), coordinator: holder, holder, expectedTerm: term }),
      fc.record({ type: fc.constant('release' as const), holder, term }),
    );
    const history = fc.array(fc.record({ command, waitMs: fc.integer({ min: 0, max: leaseMs + 1 }) }), { maxLength: 40 });
    fc.assert(
      fc.property(history, (steps) => {
        const directory = new Directory();
        const holderOfTerm = new Map<number, string>();
        let nowMs = 0;
        let highest = 0;
        let leading: { holder: string; untilMs: number } | null = null;
        for (const step of steps) {
          nowMs += step.waitMs;
          const outcome = directory.apply(room, token, '', step.command, nowMs);
          if (!outcome.ok) continue;
          const { term: granted } = outcome.lease;
          expect(granted).toBeGreaterThanOrEqual(highest);
          if (step.command.type === 'takeOver') expect(granted).toBe(step.command.expectedTerm + 1);
          highest = granted;
          if (step.command.type === 'release') {
            leading = null;
            continue;
          }
          // Every success but a release says "you lead this term": it must be the same one for ever.
          expect(holderOfTerm.get(granted) ?? step.command.holder).toBe(step.command.holder);
          holderOfTerm.set(granted, step.command.holder);
          // And nobody is put out of a lease that still runs.
          if (leading !== null && leading.holder !== step.command.holder) expect(leading.untilMs).toBeLessThanOrEqual(nowMs);
          leading = { holder: step.command.holder, untilMs: nowMs + leaseMs };
        }
      }),
      { numRuns: 3000 },
    );
  });
});
