/** The directory's leases: who holds one, how it goes on and ends, what others see of it. Take-overs have a file of their own. */
import { describe, expect, it } from 'vitest';
import { Directory, leaseMs, leaseWithoutSocketMs, roomLifetimeMs } from '../../signaling/directory.ts';
import { TestRoom, hashOf, holderOf, ledByAda, peerOf, room } from './signaling-room.ts';

describe('a room’s lease', () => {
  it('is given to whoever creates the room, and is seen by others', () => {
    const led = new TestRoom();
    const lease = { coordinator: peerOf('ada'), term: 1, expiresInMs: leaseMs, isReleased: false, step: 0, successor: false };
    expect(led.create('ada')).toEqual({ ok: true, lease });
    expect(led.wait(4000).lease).toEqual({ ...lease, expiresInMs: leaseMs - 4000 });
  });

  it('is not given twice', () => {
    const led = ledByAda(0);
    expect(led.create('ben')).toMatchObject({ ok: false, refusal: 'exists', lease: { coordinator: peerOf('ada') } });
  });

  it('goes to a leader with a higher term that the directory had forgotten, and only to such a one', () => {
    const led = ledByAda(7, { named: true });
    led.wait(1000);
    expect(led.create('cid', { term: 5, step: 30 })).toMatchObject({ ok: false, refusal: 'exists' });
    expect(led.create('cid', { term: 1, step: 30, isReclaim: true })).toMatchObject({ ok: false, refusal: 'exists' });
    expect(led.create('cid', { term: 2, step: 30, isReclaim: true })).toMatchObject({ ok: true });
    expect(led.lease).toEqual({ coordinator: peerOf('cid'), term: 2, expiresInMs: leaseMs, isReleased: false, step: 30, successor: false });
    expect(led.renew('ada', { term: 1 })).toMatchObject({ ok: false, refusal: 'stale-term', lease: { coordinator: peerOf('cid'), term: 2 } });
    expect(led.wait(leaseMs).claimWarm('ben', 30)).toEqual({ askAgainInMs: 3000 });
  });

  it('goes on with renewals, which carry a changed peer id, the step, and whether somebody is named', () => {
    const led = ledByAda(7);
    led.wait(leaseMs - 1);
    const renewal = { type: 'renew', coordinator: 'ada-later', holder: holderOf('ada'), term: 1, step: 9, successorHash: hashOf('ben'), sequence: 8 } as const;
    expect(led.directory.apply(room, 'token-of-the-room', '', renewal, led.nowMs)).toMatchObject({ ok: true });
    expect(led.lease).toEqual({ coordinator: 'ada-later', term: 1, expiresInMs: leaseMs, isReleased: false, step: 9, successor: true });
    led.renew('ada', { step: 9, sequence: 9 });
    expect(led.lease.successor).toBe(false);
  });

  it('can be renewed late as long as nobody has taken over', () => {
    const led = ledByAda(0);
    expect(led.wait(leaseMs * 3).renew('ada')).toMatchObject({ ok: true, lease: { term: 1, expiresInMs: leaseMs } });
  });

  it('is not changed by a renewal that a newer one has overtaken on its way', () => {
    const led = ledByAda(0);
    led.renew('ada', { step: 5, successor: 'cid', sequence: 7 });
    expect(led.renew('ada', { step: 4, successor: 'ben', sequence: 6 })).toMatchObject({ ok: false, refusal: 'overtaken' });
    expect(led.wait(leaseMs).claimWarm('ben', 4)).toEqual({ askAgainInMs: 60_000 });
    expect(led.claimWarm('cid', 5)).toBe('led');
    // Renewals are counted within a term.
    expect(led.renew('cid', { sequence: 1 })).toMatchObject({ ok: true });
  });

  it('never reports a step below one that was reported in its term', () => {
    const led = ledByAda(9);
    led.renew('ada', { step: 8 });
    expect(led.lease.step).toBe(9);
    led.release('ada', { step: 11 });
    expect(led.lease.step).toBe(11);
  });

  it('ends at once when it is released, is not renewable then, and keeps its successor’s name', () => {
    const led = ledByAda(0, { named: true });
    expect(led.release('ada', { step: 3 })).toMatchObject({ ok: true, lease: { expiresInMs: 0, isReleased: true, step: 3, successor: true } });
    expect(led.renew('ada')).toMatchObject({ ok: false, refusal: 'released' });
    expect(led.release('ada', { step: 3 })).toMatchObject({ ok: true });
  });

  it('is shortened when its coordinator’s socket closes, and made whole by the next renewal', () => {
    const led = ledByAda(0, { named: true });
    led.socketCloses('cid');
    expect(led.lease.expiresInMs).toBe(leaseMs);
    led.socketCloses('ada');
    expect(led.lease.expiresInMs).toBe(leaseWithoutSocketMs);
    expect(led.wait(leaseWithoutSocketMs - 1).claimWarm('ben', 0)).toBe('held');
    led.renew('ada', { successor: 'ben' });
    expect(led.lease.expiresInMs).toBe(leaseMs);
    led.wait(leaseMs - 500).socketCloses('ada');
    expect(led.lease.expiresInMs).toBe(500);
    expect(led.wait(500).claimWarm('ben', 0)).toBe('led');
  });

  it('cannot be renewed or released by somebody who knows the room’s key but not the holder’s secret', () => {
    const led = ledByAda(0, { named: true });
    expect(led.renew('ben')).toMatchObject({ ok: false, refusal: 'held' });
    expect(led.release('ben')).toMatchObject({ ok: false, refusal: 'held' });
    expect(led.renew('ada', { term: 2 })).toMatchObject({ ok: false, refusal: 'stale-term' });
  });

  it('cannot be touched without the room’s token', () => {
    const led = ledByAda(0);
    const held = { coordinator: peerOf('ada'), holder: holderOf('ada'), step: 0 };
    for (const command of [
      { type: 'create', ...held, term: 2, isReclaim: true },
      { type: 'renew', ...held, term: 1, successorHash: null, sequence: 5 },
      { type: 'takeOver', ...held, expectedTerm: 1, isWarm: true },
      { type: 'release', holder: held.holder, term: 1, step: 0 },
      { type: 'renewKey', holder: held.holder, term: 1, token: 'x' },
    ] as const) {
      expect(led.directory.apply(room, 'another token', '', command, 1)).toEqual({ ok: false, refusal: 'forbidden', lease: null, retryInMs: null });
    }
  });

  it('is forgotten with its room after a day of silence, and the room can come back under its old term', () => {
    const led = new TestRoom();
    led.create('ada');
    expect(led.directory.lookUp(room, roomLifetimeMs - 1)).not.toBeNull();
    expect(led.directory.lookUp(room, roomLifetimeMs)).toBeNull();
    led.directory.sweep(roomLifetimeMs);
    expect(led.directory.size).toBe(0);
    expect(led.wait(roomLifetimeMs).create('ada', { term: 7, step: 30 })).toMatchObject({ ok: true, lease: { term: 7, step: 30 } });
  });

  it('is forgotten even while others keep asking for it', () => {
    const led = ledByAda(9, { named: true });
    for (let asked = 1; asked < 24; asked += 1) led.wait(roomLifetimeMs / 24).claim('cid', 8);
    expect(led.wait(roomLifetimeMs / 24).takeOver('cid', { term: 1, step: 8 })).toMatchObject({ ok: false, refusal: 'not-found' });
  });
});

describe('the directory', () => {
  it('refuses rooms past its limit and past one address’s share, and takes new ones when old ones have died', () => {
    const directory = new Directory({ maxRooms: 3, maxRoomsPerAddress: 2 });
    const add = (id: string, from: string, nowMs: number): boolean =>
      directory.apply(id, 'token', from, { type: 'create', coordinator: 'p', holder: 'h', term: 1, step: 0, isReclaim: false }, nowMs).ok;
    expect([add('a', 'x', 0), add('b', 'x', 0), add('c', 'x', 0), add('c', 'y', 0), add('d', 'y', 0)]).toEqual([true, true, false, true, false]);
    expect(add('d', 'y', roomLifetimeMs)).toBe(true);
  });
});
