/** What a page shows of its room: always things that belong together, whichever machine it runs. */
import { describe, expect, it } from 'vitest';
import type { HistoryPoint, PeerRow } from '../../src/room/messages.ts';
import { noRules } from '../../src/room/rules.ts';
import { shownState } from '../../src/session/shown.ts';
import type { RoleView } from '../../src/session/shown.ts';
import { initialState } from '../../src/session/state.ts';
import type { SessionState } from '../../src/session/types.ts';
import { hashAt, peer, step, term } from '../room/bench.ts';

const point = (at: number): HistoryPoint => ({ step: step(at), loss: 10 - at, gradNorm: 1, lr: 1e-3, ms: 500, tokens: 100, bytesDown: 0, bytesUp: 0, replicaHash: hashAt(at + 1) });
const bob: PeerRow = { id: peer('bob'), name: 'Bob', role: 'member', device: '', isSoftware: false, tokensPerSecond: 50, microbatches: 1, state: 'ready' };

type MemberRole = Extract<RoleView, { kind: 'member' }>;

/** A member in a room of ten steps, three of them done. */
function member(change: Partial<MemberRole['view']> = {}): MemberRole {
  return {
    kind: 'member',
    view: {
      self: peer('bob'),
      role: 'member',
      term: term(1),
      step: step(3),
      steps: 10,
      phase: 'running',
      startedAtMs: 0,
      history: [0, 1, 2].map(point),
      rules: noRules,
      areRulesInForce: true,
      pace: null,
      sentAs: null,
      gone: [],
      peers: [bob],
      problem: null,
      connection: 'joined',
      wasWelcomed: true,
      replica: { step: step(3), hash: hashAt(3) },
      sample: null,
      ...change,
    },
  };
}

function shown(role: RoleView, before: Partial<SessionState> = {}): Partial<SessionState> {
  return shownState(role, { ...initialState, ...before }, (history) => history.reduce((sum, { ms }) => sum + ms, 0));
}

describe('a member’s page', () => {
  it('shows speed, time spent and time left from the steps done', () => {
    expect(shown(member())).toMatchObject({ step: 3, steps: 10, loss: 8, tokensPerSecond: 200, ownTokensPerSecond: 50, elapsedMs: 1500, remainingMs: 3500 });
  });

  it('shows a step once it holds its weights, and not sooner', () => {
    const ahead = member({ replica: { step: step(2), hash: hashAt(2) }, phase: 'finished' });
    expect(shown(ahead)).toMatchObject({ step: 2, loss: 9, phase: 'running', replicaHash: hashAt(2), elapsedMs: 1000 });
    expect(shown(ahead).history).toEqual([0, 1].map(point));
    expect(shown(member({ phase: 'finished' }))).toMatchObject({ step: 3, phase: 'finished', replicaHash: hashAt(3) });
  });

  it('shows the hash that belongs to the step, also when it holds the weights of one that is not announced yet', () => {
    expect(shown(member({ replica: { step: step(4), hash: hashAt(4) } }))).toMatchObject({ step: 3, replicaHash: hashAt(3) });
  });

  it('shows no speed and no time left while nothing goes on', () => {
    expect(shown(member({ phase: 'paused' }))).toMatchObject({ phase: 'paused', tokensPerSecond: 0, ownTokensPerSecond: 0, remainingMs: null });
  });

  it.each([
    ['finding', false, 'finding-room'],
    ['finding', true, 'reconnecting'],
    ['connecting', false, 'connecting'],
    ['greeting', true, 'reconnecting'],
    ['fetching', true, 'fetching-replica'],
    ['joined', true, 'running'],
    ['refused', false, 'stopped'],
    ['left', true, 'left'],
  ] as const)('that is %s (welcomed before: %s) is in the phase %s', (connection, wasWelcomed, phase) => {
    expect(shown(member({ connection, wasWelcomed })).phase).toBe(phase);
  });

  it('shows the coordinator’s sample until it has drawn one of its own', () => {
    const sent = member({ sample: { step: step(2), text: 'abc' } });
    expect(shown(sent).sample).toEqual({ step: 2, prompt: '', text: 'abc', temperature: 0, own: false });
    const own = { step: 1, prompt: 'a', text: 'b', temperature: 1, own: true };
    expect(shown(sent, { sample: own })).not.toHaveProperty('sample');
  });
});

describe('a coordinator’s page', () => {
  it('shows the room as its machine knows it, with the hash of the last step', () => {
    const { connection: _connection, wasWelcomed: _wasWelcomed, replica: _replica, sample: _sample, ...view } = member().view;
    const lead: RoleView = { kind: 'lead', view: { ...view, role: 'coordinator', phase: 'paused', isWaitingForWorkers: false, isWaitingForDirectory: false } };
    expect(shown(lead)).toMatchObject({ role: 'coordinator', phase: 'paused', step: 3, loss: 8, replicaHash: hashAt(3) });
  });
});
