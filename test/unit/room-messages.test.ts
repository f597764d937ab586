import fc from 'fast-check';
import { expect, test } from 'vitest';
import * as v from 'valibot';
import { coordinatorBlobSchema, coordinatorMessageSchema, memberBlobSchema, memberMessageSchema } from '../../src/room/messages.ts';
import type { CoordinatorBlob, CoordinatorMessage, MemberBlob, MemberMessage } from '../../src/room/messages.ts';
import type { RoomRules } from '../../src/room/rules.ts';
import { goodDevice, hashAt, holderOf, peer, replicaOffer, step, term } from '../room/bench.ts';

const schemas = [memberMessageSchema, coordinatorMessageSchema, memberBlobSchema, coordinatorBlobSchema];
const point = { step: step(2), loss: 1, gradNorm: 1, lr: 0.1, ms: 5, tokens: 10, bytesDown: 0, bytesUp: 0, validationLoss: 2, replicaHash: hashAt(3) };
const assignment = '3.1.1';
const rules: RoomRules = { revision: 2, orders: ['o'.repeat(16)], title: 'T', changes: [{ step: step(3), learningRate: 0.1, by: 'Ada' }, { step: step(4), steps: 9, by: 'Ada' }], keys: { current: 'k'.repeat(32), former: 'f'.repeat(32) }, removed: [holderOf('mal')], isClosed: false, latest: { kind: 'rename', by: 'Ada', about: 'T' } };

const memberMessages: readonly MemberMessage[] = [
  { type: 'hello', protocol: 1, name: 'x', wantsToWatch: false, device: goodDevice, canSucceed: true, holderHash: holderOf('x'), presence: { isHidden: false, rest: null }, replica: { step: step(1), hash: hashAt(1) } },
  { type: 'ready', term: term(3), step: step(1), hash: hashAt(1) },
  { type: 'applied', term: term(3), step: step(2), hash: hashAt(2) },
  { type: 'decline', term: term(3), assignment, code: 'failed', reason: '' },
  { type: 'refetch', term: term(3) },
  { type: 'want', term: term(3), step: step(2), piece: 1 },
  { type: 'presence', term: term(3), presence: { isHidden: true, rest: 'battery' } },
  { type: 'warm', term: term(3), step: step(2) },
  { type: 'unable', term: term(3), reason: 'no room' },
  { type: 'command', term: term(3), command: 'pause' },
  { type: 'command', term: term(3), command: 'resume' },
  { type: 'owner', term: term(3), revision: 2, command: '{}', signature: 'x'.repeat(86) },
  { type: 'kept', term: term(3), revision: 2 },
  { type: 'pong', nonce: 1 },
  { type: 'leave', reason: '' },
];
const coordinatorMessages: readonly CoordinatorMessage[] = [
  { type: 'welcome', term: term(3), you: peer('bob'), step: step(5), steps: 9, phase: 'running', startedAtMs: 0, replica: 'coming', run: '{}', rules, historyPoints: 5 },
  { type: 'refused', code: 'x', message: 'y' },
  { type: 'rules', term: term(3), rules, areInForce: true },
  { type: 'declined', term: term(3), revision: 2, code: 'impossible', reason: 'y' },
  { type: 'cancel', term: term(3), assignment },
  { type: 'dismissed', term: term(3) },
  { type: 'progress', term: term(3), phase: 'running', point },
  { type: 'phase', term: term(3), phase: 'paused', problem: { code: 'x', message: 'y' } },
  { type: 'validation', term: term(3), step: step(2), loss: 3 },
  {
    type: 'peers',
    term: term(3),
    peers: [{ id: peer('a'), name: 'A', role: 'member', device: '', isSoftware: false, tokensPerSecond: 1, microbatches: 1, state: 'ready', succession: 'ready', lagSteps: 1 }],
  },
  { type: 'sample', term: term(3), step: step(2), text: 'abc' },
  { type: 'share', term: term(3), step: step(2) },
  { type: 'missing', term: term(3), step: step(2), piece: 1 },
  { type: 'ping', nonce: 1 },
];
const memberBlobs: readonly MemberBlob[] = [
  { kind: 'contribution', term: term(3), step: step(1), assignment, lossSum: 1, weightSum: 9, computeMs: 1, tokens: 10 },
];
const coordinatorBlobs: readonly CoordinatorBlob[] = [
  replicaOffer(term(3), step(5), ['cid']),
  { kind: 'pieceHashes', term: term(3), step: step(5) },
  { kind: 'replicaPiece', term: term(3), step: step(5), piece: 1 },
  { kind: 'update', term: term(3), step: step(5) },
  { kind: 'appointment', term: term(3), step: step(5), masterBytes: 100, masterParts: ['firstMoments', 'secondMoments'], corpusBytes: 100, unannounced: point },
  { kind: 'gradient', term: term(3), step: step(5), weightSum: 9, point: { ...point, step: step(5) } },
  { kind: 'piece', term: term(3), since: step(5), step: step(6), part: 'firstMoments', offset: 0 },
  { kind: 'history', term: term(3), checksum: '0123abcd' },
  { kind: 'assignment', term: term(3), step: step(5), assignment, microbatches: [0, 1] },
  { kind: 'evaluation', term: term(3), step: step(5), assignment, microbatches: [0, 1] },
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
