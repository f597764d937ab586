/** The proof of the key against whoever sits on the wire: strangers, mirrors, replays, and a lying signalling server. */
import { describe, expect, it } from 'vitest';
import { fingerprintOf, shakeHands, transportVersion, type HandshakeIdentity, type HandshakeWire } from '../../src/transport/handshake.ts';

type Meddle = (message: unknown) => unknown;
const honest: Meddle = (message) => message;

/** Two wires joined back to back; what each side sends goes through a meddler first (undefined swallows it). */
function joined(callerMeddle: Meddle = honest, calleeMeddle: Meddle = honest): { caller: HandshakeWire; callee: HandshakeWire; hangUp: () => void } {
  const inboxes: { arrived: unknown[]; waiting: { resolve: (message: unknown) => void; reject: (error: Error) => void } | null }[] = [
    { arrived: [], waiting: null },
    { arrived: [], waiting: null },
  ];
  let over = false;
  const deliver = (to: number, message: unknown): void => {
    const inbox = inboxes[to];
    if (inbox === undefined || message === undefined) return;
    const copy: unknown = JSON.parse(JSON.stringify(message));
    if (inbox.waiting === null) inbox.arrived.push(copy);
    else inbox.waiting.resolve(copy);
    inbox.waiting = null;
  };
  const wire = (own: number, meddle: Meddle): HandshakeWire => ({
    send: (message) => deliver(1 - own, meddle(message)),
    receive: () =>
      new Promise((resolve, reject) => {
        const inbox = inboxes[own];
        if (inbox === undefined) return;
        if (inbox.arrived.length > 0) resolve(inbox.arrived.shift());
        else if (over) reject(new Error('hung up'));
        else inbox.waiting = { resolve, reject };
      }),
  });
  return {
    caller: wire(0, callerMeddle),
    callee: wire(1, calleeMeddle),
    hangUp: () => {
      over = true;
      for (const inbox of inboxes) inbox.waiting?.reject(new Error('hung up'));
    },
  };
}

const caller: HandshakeIdentity = {
  role: 'caller',
  room: 'room-1',
  key: 'the key',
  ownId: 'peer-a',
  remoteId: 'peer-b',
  ownFingerprint: 'sha-256 AA',
  remoteFingerprint: 'sha-256 BB',
};
const callee: HandshakeIdentity = { ...caller, role: 'callee', ownId: 'peer-b', remoteId: 'peer-a', ownFingerprint: 'sha-256 BB', remoteFingerprint: 'sha-256 AA' };

interface Outcome {
  readonly result: string;
  /** The side took the other's proof for good: from here on it would have listened. */
  readonly convinced: boolean;
}

async function shake(a: HandshakeIdentity, b: HandshakeIdentity, wires = joined()): Promise<[Outcome, Outcome]> {
  const one = async (identity: HandshakeIdentity, wire: HandshakeWire): Promise<Outcome> => {
    let convinced = false;
    try {
      await shakeHands(identity, wire, { verified: () => (convinced = true) });
      return { result: 'ok', convinced };
    } catch (error) {
      wires.hangUp();
      const problem = typeof error === 'object' && error !== null && 'problem' in error ? (error.problem as { code: string }).code : String(error);
      return { result: problem, convinced };
    }
  };
  return Promise.all([one(a, wires.caller), one(b, wires.callee)]);
}

const refused = { convinced: false };

describe('the handshake', () => {
  it('convinces two sides that share room, key, ids and certificates', async () => {
    expect(await shake(caller, callee)).toEqual([
      { result: 'ok', convinced: true },
      { result: 'ok', convinced: true },
    ]);
  });

  it.each([
    ['keys', { key: 'another key' }],
    ['rooms', { room: 'room-2' }],
    ['ids for the callee, since signalling connected it to somebody else', { ownId: 'peer-c' }],
    ['ids for the caller, since signalling forged where the offer came from', { remoteId: 'peer-m' }],
    ['certificates for the callee, since somebody sits in between', { ownFingerprint: 'sha-256 CC' }],
    ['certificates for the caller, since somebody sits in between', { remoteFingerprint: 'sha-256 MM' }],
    ['certificates in swapped places', { ownFingerprint: 'sha-256 AA', remoteFingerprint: 'sha-256 BB' }],
  ])('convinces nobody when the two have different %s', async (_what, change) => {
    const outcomes = await shake(caller, { ...callee, ...change });
    expect(outcomes).toMatchObject([refused, refused]);
    expect(outcomes.map((outcome) => outcome.result)).toContain('wrong-key');
  });

  it('is not fooled by a mirror that sends everything back', async () => {
    for (const identity of [caller, callee]) {
      const inbox: unknown[] = [];
      const mirror: HandshakeWire = { send: (message) => inbox.push(message), receive: () => Promise.resolve(inbox.shift()) };
      let convinced = false;
      await expect(shakeHands(identity, mirror, { verified: () => (convinced = true) })).rejects.toMatchObject({ problem: { code: 'wrong-key' } });
      expect(convinced).toBe(false);
    }
  });

  it('is not fooled by two callers put back to back', async () => {
    expect(await shake(caller, { ...callee, role: 'caller' })).toMatchObject([refused, refused]);
  });

  it('is not fooled by a recording of an honest handshake', async () => {
    const recorded: unknown[] = [];
    await shake(caller, callee, joined(honest, (message) => {
      recorded.push(structuredClone(message));
      return message;
    }));
    expect(recorded).toHaveLength(3);
    const replay: HandshakeWire = { send: () => undefined, receive: () => Promise.resolve(recorded.shift()) };
    await expect(shakeHands(caller, replay, { verified: () => undefined })).rejects.toMatchObject({ problem: { code: 'wrong-key' } });
  });

  it('is not fooled when a nonce is changed on the way', async () => {
    const meddle: Meddle = (message) => (typeof message === 'object' && message !== null && 'nonce' in message ? { ...message, nonce: 'A'.repeat(43) } : message);
    expect(await shake(caller, callee, joined(meddle))).toMatchObject([refused, refused]);
  });

  it('does not count as done before the other side has accepted', async () => {
    const swallow: Meddle = (message) => (typeof message === 'object' && message !== null && 'type' in message && message.type === 'accepted' ? { type: 'proof', proof: 'A'.repeat(43) } : message);
    const [first, second] = await shake(caller, callee, joined(swallow));
    expect(first.result === 'ok' && second.result === 'ok').toBe(false);
    expect(second).toMatchObject({ result: 'wrong-key' });
  });

  it('does not begin without certificates to bind the proof to', async () => {
    const [bare, bareToo] = [{ ...caller, remoteFingerprint: '' }, { ...callee, ownFingerprint: '' }];
    expect(await shake(bare, bareToo)).toMatchObject([refused, refused]);
    expect(await shake({ ...bare, ownFingerprint: '' }, { ...bareToo, remoteFingerprint: '' })).toMatchObject([refused, refused]);
  });

  it('tells another version from a wrong key, and which side should reload', async () => {
    const older: Meddle = (message) => (typeof message === 'object' && message !== null && 'version' in message ? { type: 'hello', version: 7 } : message);
    const [, second] = await shake(caller, callee, joined(older));
    expect(second.result).toBe('version-mismatch');
  });

  it('takes anything else for a wrong key', async () => {
    for (const nonsense of [null, 7, [], {}, { type: 'hello' }, { type: 'hello', version: '1' }, { type: 'hello', version: transportVersion, nonce: 'short' }, { type: 'accepted' }]) {
      await expect(shakeHands(caller, { send: () => undefined, receive: () => Promise.resolve(nonsense) }, { verified: () => undefined })).rejects.toMatchObject({
        problem: { code: 'wrong-key' },
      });
    }
  });
});

describe('certificate fingerprints', () => {
  it('are the same set however a description writes them', () => {
    const session = 'v=0\r\na=fingerprint:SHA-256 ab:cd\r\nm=application 9\r\na=setup:actpass\r\n';
    const media = 'v=0\r\nm=application 9\r\na=fingerprint:sha-256 AB:CD\r\na=fingerprint:sha-256 AB:CD\r\n';
    expect(fingerprintOf(session)).toBe('sha-256 AB:CD');
    expect(fingerprintOf(media)).toBe(fingerprintOf(session));
    expect(fingerprintOf('')).toBe('');
  });
});
