import fc from 'fast-check';
import { expect, test } from 'vitest';
import * as v from 'valibot';
import { coordinatorBlobSchema, coordinatorMessageSchema, memberBlobSchema, memberMessageSchema } from '../../src/room/messages.ts';
import type { CoordinatorBlob, CoordinatorMessage, MemberBlob, MemberMessage, PeerId } from '../../src/room/messages.ts';
import type { BlobRef } from '../../src/room/machine.ts';
import { CoordinatorBench, goodDevice, hashAt, MemberBench, peer, step, term } from '../room/bench.ts';
import { mutated } from '../room/mutate.ts';
import { Random } from '../room/random.ts';

const schemas = [memberMessageSchema, coordinatorMessageSchema, memberBlobSchema, coordinatorBlobSchema];
const point = { step: step(2), loss: 1, gradNorm: 1, lr: 0.1, ms: 5, tokens: 10, bytesDown: 0, bytesUp: 0, validationLoss: 2, replicaHash: hashAt(3) };
const assignment = '3.1.1';

const memberMessages: readonly MemberMessage[] = [
  { type: 'hello', protocol: 1, name: 'x', wantsToWatch: false, device: goodDevice, replica: { step: step(1), hash: hashAt(1) } },
  { type: 'ready', term: term(3), step: step(1), hash: hashAt(1) },
  { type: 'applied', term: term(3), step: step(2), hash: hashAt(2) },
  { type: 'decline', term: term(3), assignment, code: 'failed', reason: '' },
  { type: 'refetch', term: term(3) },
  { type: 'command', term: term(3), command: 'pause' },
  { type: 'command', term: term(3), command: 'resume' },
  { type: 'pong', nonce: 1 },
  { type: 'leave', reason: '' },
];
const coordinatorMessages: readonly CoordinatorMessage[] = [
  { type: 'welcome', term: term(3), you: peer('bob'), step: step(5), steps: 9, phase: 'running', startedAtMs: 0, replica: 'coming', run: '{}', historyPoints: 5 },
  { type: 'refused', code: 'x', message: 'y' },
  { type: 'cancel', term: term(3), assignment },
  { type: 'progress', term: term(3), phase: 'running', point },
  { type: 'phase', term: term(3), phase: 'paused', problem: { code: 'x', message: 'y' } },
  { type: 'validation', term: term(3), step: step(2), loss: 3 },
  {
    type: 'peers',
    term: term(3),
    peers: [{ id: peer('a'), name: 'A', role: 'member', device: '', isSoftware: false, tokensPerSecond: 1, microbatches: 1, state: 'ready' }],
  },
  { type: 'sample', term: term(3), step: step(2), text: 'abc' },
  { type: 'ping', nonce: 1 },
];
const memberBlobs: readonly MemberBlob[] = [
  { kind: 'contribution', term: term(3), step: step(1), assignment, lossSum: 1, weightSum: 9, computeMs: 1, tokens: 10 },
];
const coordinatorBlobs: readonly CoordinatorBlob[] = [
  { kind: 'replica', term: term(3), step: step(5) },
  { kind: 'update', term: term(3), step: step(5) },
  { kind: 'history', term: term(3), checksum: '0123abcd' },
  { kind: 'assignment', term: term(3), step: step(5), assignment, microbatches: [0, 1] },
];

test('what the machines send passes the schemas unchanged, also as JSON', () => {
  const pairs = [
    ...memberMessages.map((value) => [memberMessageSchema, value] as const),
    ...coordinatorMessages.map((value) => [coordinatorMessageSchema, value] as const),
    ...memberBlobs.map((value) => [memberBlobSchema, value] as const),
    ...coordinatorBlobs.map((value) => [coordinatorBlobSchema, value] as const),
  ];
  for (const [schema, value] of pairs) expect(v.parse(schema, JSON.parse(JSON.stringify(value)))).toEqual(value);
});

test('validation never throws, whatever JSON it is given', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      for (const schema of schemas) v.safeParse(schema, value);
    }),
    { numRuns: 2_000 },
  );
});

test.each([
  ['a number that JSON can’t carry', { type: 'pong', nonce: null }],
  ['a fractional step', { type: 'ready', term: 3, step: 1.5, hash: hashAt(1) }],
  ['a negative term', { type: 'refetch', term: -1 }],
  ['a hash of another length', { type: 'ready', term: 3, step: 1, hash: 'abc' }],
  ['a name too long', { type: 'hello', protocol: 1, name: 'x'.repeat(41), wantsToWatch: false, device: goodDevice, replica: null }],
  ['an unknown type', { type: 'evil' }],
  ['no type', {}],
])('%s is not a message', (_what, value) => {
  expect(v.safeParse(memberMessageSchema, value).success).toBe(false);
});

/** Damaged until it is something else that still passes. */
function variant<T>(schema: v.GenericSchema<unknown, T>, value: unknown, random: Random): T | null {
  let damaged = value;
  for (let rounds = random.below(3); rounds > 0; rounds -= 1) damaged = mutated(damaged, random);
  const parsed = v.safeParse(schema, damaged);
  return parsed.success ? parsed.output : null;
}

const peers = ['bob', 'cid', 'eve'];

/** Whatever was sent, each micro-batch of the step is in one place, and the room goes on once the attack ends. */
function checkCoordinator(room: CoordinatorBench): void {
  const { work } = room.state;
  if (work === null) return;
  const waiting = [...work.pool, ...[...work.assignments.values()].flatMap((each) => each.microbatches)];
  expect(new Set(waiting).size).toBe(waiting.length);
  expect(waiting.length).toBe(work.missing);
}

test('no sequence of valid messages breaks the coordinator or loses a micro-batch', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 30 }), (seed) => {
      const random = new Random(seed);
      const room = new CoordinatorBench().join('bob').join('cid');
      for (let count = 0; count < 120; count += 1) {
        room.nowMs += random.below(800);
        const from = random.pick(peers);
        const real = random.pick([...(room.state.work?.assignments.keys() ?? []), assignment]);
        switch (random.below(8)) {
          case 0:
            room.send(random.chance(0.7) ? { type: 'peerOpened', peer: peer(from) } : { type: 'peerClosed', peer: peer(from), reason: '' });
            break;
          case 1: {
            const header = variant(memberBlobSchema, { ...memberBlobs[0], step: room.state.step, assignment: real }, random);
            if (header !== null) room.send({ type: 'blob', from: peer(from), header, ref: `r${count}` as BlobRef, bytes: 9 });
            break;
          }
          case 2:
            room.send(random.chance(0.8) ? { type: 'contributionAdded', assignment: real } : { type: 'contributionRejected', assignment: real, reason: 'x' });
            break;
          case 3:
            room.ownResult({ failed: random.chance(0.2) });
            break;
          case 4:
            if (room.state.work?.isCommitting === true) room.committed({ applied: random.chance(0.9) });
            else room.send({ type: 'tick' });
            break;
          default: {
            const message = variant(memberMessageSchema, { ...random.pick(memberMessages), step: room.state.step, assignment: real }, random);
            if (message !== null) room.from(from, message);
          }
        }
        checkCoordinator(room);
        for (const { message } of room.of('send')) expect(v.safeParse(coordinatorMessageSchema, JSON.parse(JSON.stringify(message))).issues).toBeUndefined();
        for (const { header } of room.of('assign')) v.parse(coordinatorBlobSchema, header);
      }
      for (const id of peers) room.send({ type: 'peerClosed', peer: id as PeerId, reason: '' });
      const { step: before } = room.state;
      for (let count = 0; count < 40; count += 1) {
        room.send({ type: 'command', command: 'resume' }).pass(1_000);
        for (const { id, phase } of room.state.work?.assignments.values() ?? []) if (phase === 'adding') room.added(id);
        room.ownResult();
        if (room.state.work?.isCommitting === true) room.committed();
      }
      expect(room.state.step).toBeGreaterThan(before);
    }),
    { numRuns: 150 },
  );
});

test('no sequence of valid messages breaks a member, and every blob is used or discarded once', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 30 }), (seed) => {
      const random = new Random(seed);
      const member = new MemberBench().join();
      const used = new Set<BlobRef>();
      const check = (): void => {
        for (const effect of member.effects) {
          if (!('ref' in effect)) continue;
          expect(used.has(effect.ref)).toBe(false);
          used.add(effect.ref);
        }
        for (const { message } of member.of('send')) v.parse(memberMessageSchema, JSON.parse(JSON.stringify(message)));
        for (const { header } of member.of('sendContribution')) v.parse(memberBlobSchema, header);
      };
      for (let count = 0; count < 120; count += 1) {
        member.nowMs += random.below(400);
        const held = member.state.replica?.step ?? 5;
        member.effects = [];
        switch (random.below(9)) {
          case 0:
            member.send({ type: 'directory', lead: random.chance(0.8) ? { coordinator: peer('ada'), term: term(3 + random.below(2)) } : null });
            break;
          case 1:
            member.send({ type: 'connected', coordinator: peer('ada') }).welcome({ term: term(3 + random.below(2)), historyPoints: random.below(2) });
            break;
          case 2:
            if (random.chance(0.2)) member.send({ type: 'disconnected', reason: '' });
            else member.send({ type: 'tick' });
            break;
          case 3: {
            const { loading } = member.state;
            if (loading === null) break;
            const { kind, step: at } = loading;
            if (random.chance(0.1)) member.send({ type: 'replicaFailed', step: at, reason: '' });
            else member.send({ type: kind === 'load' ? 'replicaLoaded' : 'updateApplied', step: at, hash: hashAt(at) });
            break;
          }
          case 4:
            member.computed(member.state.computing?.assignment ?? 'x', { failed: random.chance(0.2), step: step(held) });
            break;
          case 5:
            if (random.chance(0.1)) member.send({ type: 'device', device: { ...goodDevice, problem: random.chance(0.5) ? null : { code: 'x', message: 'y' } } });
            break;
          case 6: {
            const message = variant(coordinatorMessageSchema, random.pick(coordinatorMessages), random);
            if (message !== null && message.type !== 'refused') member.message(message);
            break;
          }
          default: {
            const around = { step: Math.max(0, held + random.below(3) - 1), assignment: `a${count}` };
            const header = variant(coordinatorBlobSchema, { ...random.pick(coordinatorBlobs), ...around }, random);
            if (header !== null) member.blob(header);
          }
        }
        check();
      }
    }),
    { numRuns: 150, examples: [[927454950]] },
  );
});
