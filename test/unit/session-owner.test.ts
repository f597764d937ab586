/** The owner's orders from the page that gives them to the room that carries them out: only the owner's, each once. */
import { IDBFactory } from 'fake-indexeddb';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { noRules, orderOf, withOrder } from '../../src/room/rules.ts';
import type { OwnerCommand, RoomRules, SignedCommand } from '../../src/room/rules.ts';
import { OwnerDesk, ownerControls } from '../../src/session/owner-desk.ts';
import { forgetOwner, makeOwner, ownerOf, signCommand, verifiedCommand } from '../../src/session/owner.ts';
import { heritage, parseRules } from '../../src/session/rules.ts';
import { DriverRoom } from './session-room.ts';

const rename: OwnerCommand = { kind: 'rename', title: 'Whales' };

describe('an order', () => {
  it('is understood by whoever knows the owner’s public key, and by nobody once anything of it is changed', async () => {
    const owner = await makeOwner('room');
    const other = await makeOwner('other');
    const signed = await signCommand(owner, 'room', 7, rename);
    expect(await verifiedCommand(owner.publicKey, 'room', signed)).toEqual(rename);
    const forged: readonly [string, string, SignedCommand][] = [
      [owner.publicKey, 'other', signed],
      [other.publicKey, 'room', signed],
      ['A'.repeat(87), 'room', signed],
      [owner.publicKey, 'room', { ...signed, revision: 8 }],
      [owner.publicKey, 'room', { ...signed, command: signed.command.replace('Whales', 'Whalez') }],
      [owner.publicKey, 'room', { ...signed, signature: `B${signed.signature.slice(1)}` }],
    ];
    for (const [key, room, what] of forged) expect(await verifiedCommand(key, room, what)).toBeNull();
  });

  it('that is signed but means nothing here is none', async () => {
    const owner = await makeOwner('room');
    const signed = await signCommand(owner, 'room', 1, { kind: 'blow up' } as unknown as OwnerCommand);
    expect(await verifiedCommand(owner.publicKey, 'room', signed)).toBeNull();
  });

  it('can be given again after a reload, but not once the run is deleted', async () => {
    vi.stubGlobal('indexedDB', new IDBFactory());
    const { publicKey } = await makeOwner('kept');
    vi.resetModules();
    const reloaded = await import('../../src/session/owner.ts');
    const again = await reloaded.ownerOf('kept');
    expect(again?.publicKey).toBe(publicKey);
    expect(again?.privateKey.extractable).toBe(false);
    expect(await verifiedCommand(publicKey, 'kept', await reloaded.signCommand(again!, 'kept', 1, rename))).toEqual(rename);
    await reloaded.forgetOwner('kept');
    expect(await reloaded.ownerOf('kept')).toBeNull();
    await forgetOwner('kept');
    expect(await ownerOf('kept')).toBeNull();
    vi.unstubAllGlobals();
  });
});

describe('the desk', () => {
  async function desk() {
    const room = { rules: noRules, nowMs: 0, sent: [] as SignedCommand[] };
    const opened = new OwnerDesk({ room: 'room', send: (signed) => room.sent.push(signed), rules: () => room.rules, nowMs: () => room.nowMs });
    opened.open(await makeOwner('room'));
    const sentSo = (count: number) => vi.waitFor(() => expect(room.sent).toHaveLength(count));
    /** The room carries out the order that was sent last. */
    const carryOut = () => {
      const last = room.sent.at(-1)!;
      room.rules = withOrder(room.rules, last.revision, orderOf(last));
      opened.tick();
    };
    return { room, desk: opened, sentSo, carryOut };
  }

  it('sends an order again until the rules say that it is done, and the next one only then', async () => {
    const { room, desk: at, sentSo, carryOut } = await desk();
    const done = Promise.all([at.command(rename), at.command({ kind: 'close' })]);
    await sentSo(1);
    for (const nowMs of [500, 2_500]) {
      room.nowMs = nowMs;
      at.tick();
    }
    expect(room.sent).toHaveLength(2);
    expect(room.sent[1]).toBe(room.sent[0]);
    carryOut();
    await sentSo(3);
    expect(room.sent[2]).toMatchObject({ revision: 2, command: '{"kind":"close"}' });
    carryOut();
    await done;
  });

  it('gives an order that came too late once more, under a revision after the newest', async () => {
    const { room, desk: at, sentSo, carryOut } = await desk();
    const done = at.command(rename);
    await sentSo(1);
    at.declined({ revision: 1, code: 'outdated', reason: 'x' });
    room.nowMs = 1_900;
    at.tick();
    expect(room.sent, 'the other order is still on its way').toHaveLength(1);
    room.nowMs = 2_000;
    at.tick();
    await sentSo(2);
    expect(room.sent[1]?.revision).toBe(2);
    carryOut();
    await done;
  });

  it('does not take another tab’s order for its own', async () => {
    const { room, desk: at, sentSo, carryOut } = await desk();
    const done = at.command(rename);
    await sentSo(1);
    room.rules = withOrder(room.rules, 1, 'of-another-tab-x');
    at.tick();
    await sentSo(2);
    expect(room.sent[1]).toMatchObject({ revision: 2, command: room.sent[0]?.command });
    carryOut();
    await done;
  });

  it('says of an order that nothing more will be heard of it when the page leaves', async () => {
    const { desk: at, sentSo } = await desk();
    const given = at.command(rename).catch((error: unknown) => error);
    await sentSo(1);
    at.close();
    expect(await given).toMatchObject({ message: expect.stringMatching(/may still be done/) as unknown });
    await expect(at.command(rename)).rejects.toMatchObject({ problem: { code: 'owner-only' } });
  });

  it('says why an order was not carried out, and that nobody answered', async () => {
    const { room, desk: at, sentSo } = await desk();
    const declined = at.command(rename).catch((error: unknown) => error);
    await sentSo(1);
    at.declined({ revision: 1, code: 'impossible', reason: 'No.' });
    expect(await declined).toMatchObject({ problem: { code: 'not-done', message: 'No.' } });
    const unanswered = at.command(rename).catch((error: unknown) => error);
    await sentSo(2);
    room.nowMs += 31_000;
    at.tick();
    expect(await unanswered).toMatchObject({ message: expect.stringMatching(/has not answered.*may still be done/) as unknown });
  });

  it('takes no order of anybody else, and none that can’t be one', async () => {
    const closed = new OwnerDesk({ room: 'room', send: () => undefined, rules: () => noRules, nowMs: () => 0 });
    await expect(closed.command(rename)).rejects.toMatchObject({ problem: { code: 'owner-only' } });
    const controls = ownerControls((command) => closed.command(command), () => null, () => null);
    await expect(controls.rename('x'.repeat(500))).rejects.toMatchObject({ problem: { code: 'bad-settings' } });
  });
});

describe('in a room', () => {
  let room: DriverRoom | null = null;
  afterEach(async () => {
    await room?.close();
    room = null;
  });

  it('a member’s order is carried out if it is the owner’s, and whoever pretends is removed', async () => {
    const owner = await makeOwner('room');
    const opened = await DriverRoom.open({ owner: owner.publicKey, steps: 5 });
    room = opened;
    const [bob, mal] = [opened.join('bob'), opened.join('mal')];
    await opened.until('both are in', () => [bob, mal].every(({ driver }) => driver.view.connection === 'joined'));
    bob.driver.dispatch({ type: 'ownerCommand', signed: await signCommand(owner, 'room', 1, rename) });
    await opened.until('everybody knows', () => [opened.lead, bob.driver, mal.driver].every(({ view }) => view.rules.title === 'Whales'));
    bob.driver.dispatch({ type: 'ownerCommand', signed: await signCommand(owner, 'room', 1, { kind: 'close' }) });
    await opened.until('Bob hears that it was too late', () => bob.declined.length > 0);
    mal.driver.dispatch({ type: 'ownerCommand', signed: await signCommand(await makeOwner('mal'), 'room', 2, { kind: 'close' }) });
    await opened.until('Mal is gone', () => opened.lead.view.peers.every(({ name }) => name !== 'mal'));
    expect(opened.notices.join()).toMatch(/mal gave an order that only the room’s owner can give/);
    expect(opened.lead.view.phase).toBe('paused');
    bob.driver.dispatch({ type: 'ownerCommand', signed: await signCommand(owner, 'room', 2, { kind: 'remove', peer: 'ada' as never }) });
    await opened.until('Bob hears why not', () => bob.declined.some((reason) => reason.includes('Ada leads the room')));
  });
});

describe('what a browser has saved', () => {
  const self = { holderHash: 'h'.repeat(43), isOwner: false };
  const saved = (rules: Partial<RoomRules>) => ({ step: 5, term: 2, rules: JSON.stringify({ ...noRules, revision: 1, ...rules }) });

  it('brings the room back, unless it was removed or the room was closed by somebody else', () => {
    expect(heritage(saved({}), self)).toEqual({ step: 5, term: 2 });
    expect(heritage({ step: 5, term: 2 }, self), 'saved before there were rules').toEqual({ step: 5, term: 2 });
    expect(heritage(saved({ removed: [self.holderHash] }), self)).toBeNull();
    expect(heritage(saved({ isClosed: true }), self)).toBeNull();
    expect(heritage(saved({ isClosed: true }), { ...self, isOwner: true })).toEqual({ step: 5, term: 2 });
    expect(heritage(null, self)).toBeNull();
  });

  it('and can’t be read, counts as nothing', () => {
    expect(parseRules('{"revision":-1}')).toEqual(noRules);
    expect(parseRules('nonsense')).toEqual(noRules);
    expect(parseRules(undefined)).toEqual(noRules);
  });
});
