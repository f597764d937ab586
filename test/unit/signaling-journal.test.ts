/** What the server knows of its rooms after a restart: real files in a folder of their own. */
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { defaultLimits, Directory, leaseMs, roomLifetimeMs, type KeptRoom } from '../../signaling/directory.ts';
import { RoomJournal, journalFile, removeOldJournals } from '../../signaling/room-journal.ts';
import { hashOf, holderOf, peerOf, room, token } from './signaling-room.ts';

let folder: string;
let file: string;
const problems: string[] = [];
const opened: RoomJournal[] = [];

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'cotrain-rooms-'));
  file = path.join(folder, 'deeper', 'rooms.jsonl');
  problems.length = 0;
});

afterEach(() => {
  for (const journal of opened.splice(0)) journal.close();
  rmSync(folder, { recursive: true, force: true });
});

function open(): RoomJournal {
  const journal = new RoomJournal(file, (why) => problems.push(why));
  opened.push(journal);
  return journal;
}

/** As the server does it at its start. */
function startDirectory(nowMs = 0): Directory {
  const journal = open();
  const directory = new Directory(defaultLimits, journal);
  for (const { id, room: kept, ageMs } of journal.rooms) directory.restore(id, kept, ageMs, nowMs);
  return directory;
}

function create(directory: Directory, id = room): void {
  const command = { type: 'create', coordinator: peerOf('ada'), holder: holderOf('ada'), term: 1, step: 0, isReclaim: false } as const;
  expect(directory.apply(id, token, '10.0.0.1', command, 0)).toMatchObject({ ok: true });
}

function renew(directory: Directory, { step = 5, sequence = 1, id = room }: { step?: number; sequence?: number; id?: string } = {}, nowMs = 0) {
  const command = { type: 'renew', coordinator: peerOf('ada'), holder: holderOf('ada'), term: 1, step, successorHash: hashOf('ben'), sequence } as const;
  return directory.apply(id, token, '10.0.0.1', command, nowMs);
}

describe('a server that was restarted', () => {
  it('knows term, step and successor, and lets nobody in before the lease it may have granted has ended', () => {
    const before = startDirectory();
    create(before);
    renew(before, { step: 7 });
    const after = startDirectory(1000);
    expect(after.lookUp(room, 1000)).toEqual({ coordinator: peerOf('ada'), term: 1, expiresInMs: leaseMs, isReleased: false, step: 7, successor: true });
    const claim = { type: 'takeOver', coordinator: peerOf('ben'), holder: holderOf('ben'), expectedTerm: 1, step: 7, isWarm: true } as const;
    expect(after.apply(room, token, '', claim, 1000 + leaseMs - 1)).toMatchObject({ ok: false, refusal: 'held' });
    // One more than before: nothing was forgotten.
    expect(after.apply(room, token, '', claim, 1000 + leaseMs)).toMatchObject({ ok: true, lease: { term: 2 } });
    expect(startDirectory(1000).lookUp(room, 1000)).toMatchObject({ term: 2, coordinator: peerOf('ben'), successor: false });
  });

  it('still refuses a wrong key, another holder and a renewal that was overtaken', () => {
    const before = startDirectory();
    create(before);
    renew(before, { sequence: 9 });
    const after = startDirectory();
    expect(renew(after, { sequence: 8 })).toMatchObject({ refusal: 'overtaken' });
    expect(renew(after, { sequence: 9 })).toMatchObject({ ok: true });
    const release = { type: 'release', holder: holderOf('ben'), term: 1, step: 7 } as const;
    expect(after.apply(room, token, '', release, 0)).toMatchObject({ refusal: 'held' });
    expect(after.apply(room, 'another token', '', release, 0)).toMatchObject({ refusal: 'forbidden' });
  });

  it('knows that a lease was given back, and that the key was renewed', () => {
    const before = startDirectory();
    create(before);
    before.apply(room, token, '', { type: 'renewKey', holder: holderOf('ada'), term: 1, token: 'the new token' }, 0);
    before.apply(room, 'the new token', '', { type: 'release', holder: holderOf('ada'), term: 1, step: 4 }, 0);
    const after = startDirectory();
    expect(after.lookUp(room, 0)).toMatchObject({ isReleased: true, expiresInMs: 0, step: 4 });
    const claim = { type: 'takeOver', coordinator: peerOf('ben'), holder: holderOf('ben'), expectedTerm: 1, step: 4, isWarm: false } as const;
    expect(after.apply(room, token, '', claim, 0)).toMatchObject({ refusal: 'forbidden' });
    expect(after.apply(room, 'the new token', '', claim, 0)).toMatchObject({ refusal: 'election' });
  });
});

describe('the file', () => {
  it('passes over a line that a crash cut short, and over whatever else is no room', () => {
    create(startDirectory());
    appendFileSync(file, 'null\n{"id":"room-two"}\n{"id":"room-three","touchedAtMs":17000');
    expect(open().rooms.map(({ id }) => id)).toEqual([room]);
    // Written anew at each start: nothing is appended to half a line.
    create(startDirectory(), 'room-four');
    expect(open().rooms.map(({ id }) => id)).toEqual([room, 'room-four']);
  });

  it('is readable by its owner alone', () => {
    create(startDirectory());
    expect(statSync(file).mode & 0o077).toBe(0);
    expect(statSync(path.dirname(file)).mode & 0o077).toBe(0);
  });

  it('holds hashes of what is secret, not the secrets', () => {
    const directory = startDirectory();
    create(directory);
    renew(directory);
    const text = readFileSync(file, 'utf8');
    expect(text).toContain(hashOf('ben'));
    for (const secret of [token, holderOf('ada'), holderOf('ben')]) expect(text).not.toContain(secret);
  });

  it('is written anew before it has grown to a few megabytes', () => {
    const directory = startDirectory();
    create(directory);
    for (let step = 1; step <= 8000; step += 1) renew(directory, { step, sequence: step });
    expect(statSync(file).size).toBeLessThan(1_200_000);
    expect(startDirectory().lookUp(room, 0)?.step).toBe(8000);
    expect(readdirSync(path.dirname(file))).toEqual(['rooms.jsonl']);
  });

  it('loses rooms that nobody has touched for a day', () => {
    create(startDirectory());
    const line = JSON.parse(readFileSync(file, 'utf8')) as { id: string; touchedAtMs: number; room: KeptRoom };
    line.touchedAtMs -= roomLifetimeMs;
    writeFileSync(file, `${JSON.stringify(line)}\n`);
    expect(startDirectory().size).toBe(0);
    expect(open().rooms).toEqual([]);
  });

  it('is told apart by address and port, and removed when its server has been gone for a day', () => {
    const names = [journalFile(folder, null, 8443), journalFile(folder, null, 8444), journalFile(folder, '::1', 8443)];
    expect(new Set(names).size).toBe(3);
    for (const name of names) writeFileSync(name, '');
    const old = Date.now() / 1000 - roomLifetimeMs / 1000 - 60;
    utimesSync(names[0] ?? '', old, old);
    utimesSync(names[2] ?? '', old, old);
    writeFileSync(path.join(folder, 'certificate.pem'), '');
    utimesSync(path.join(folder, 'certificate.pem'), old, old);
    removeOldJournals(folder);
    expect(readdirSync(folder).toSorted()).toEqual(['certificate.pem', path.basename(names[1] ?? '')].toSorted());
  });

  it('that can’t be written is reported once, and rooms go on in memory', () => {
    writeFileSync(path.join(folder, 'deeper'), 'a file where the folder should be');
    const directory = startDirectory();
    expect(problems).toEqual(['ENOTDIR']);
    create(directory);
    renew(directory, { step: 3 });
    expect(directory.lookUp(room, 0)?.step).toBe(3);
    expect(problems).toHaveLength(1);
  });

  it('that can no longer be written is given up, and reported once', () => {
    const directory = startDirectory();
    create(directory);
    renameSync(path.dirname(file), path.join(folder, 'moved away'));
    writeFileSync(path.join(folder, 'deeper'), 'a file where the folder should be');
    for (let step = 1; step <= 8000; step += 1) renew(directory, { step, sequence: step });
    expect(problems).toHaveLength(1);
    expect(directory.lookUp(room, 0)?.step).toBe(8000);
  });
});
