/** One list of troubles: each code is explained in one place, and who knows best what to do has the word. */
import { describe, expect, expectTypeOf, it } from 'vitest';
import { StorageError } from '../../src/checkpoint/errors.ts';
import type { StorageErrorCode } from '../../src/checkpoint/errors.ts';
import { problems as roomProblems } from '../../src/room/problems.ts';
import type { Step } from '../../src/room/messages.ts';
import { explain, problem, problemOf, storageProblemOf } from '../../src/session/problems.ts';
import type { LowerCode, OwnCode } from '../../src/session/problems.ts';
import { TrainerError, problems as trainerProblems } from '../../src/trainer/errors.ts';
import type { TrainerCode } from '../../src/trainer/errors.ts';
import { problems as transportProblems } from '../../src/transport/problems.ts';
import type { TransportCode } from '../../src/transport/problems.ts';

it('no code is explained by two layers', () => {
  expectTypeOf<OwnCode & LowerCode>().toBeNever();
  expectTypeOf<TransportCode & TrainerCode>().toBeNever();
  expectTypeOf<TransportCode & StorageErrorCode>().toBeNever();
  expectTypeOf<TrainerCode & StorageErrorCode>().toBeNever();
});

describe('what the room’s machines name', () => {
  const { versionMismatch, roomFull, weightsUnreadable, stepNotFinite, nothingScored, noImprovement, roomClosed, ...constant } = roomProblems;
  const step = 7 as Step;
  const named = [versionMismatch(9), roomFull(255), weightsUnreadable('no memory'), stepNotFinite(step), nothingScored(step), noImprovement(3, 1.5), roomClosed('Ada'), ...Object.values(constant)];

  it.each(named)('$code comes with advice of its own', (trouble) => {
    const { whatToDo, ...rest } = explain(trouble);
    expect(rest).toEqual(trouble);
    expect(whatToDo).not.toBe(explain({ code: 'never heard of', message: '' }).whatToDo);
  });

  it('is advised on as by the transport where both meet the same trouble', () => {
    const { problem: unreachable } = transportProblems.signallingUnreachable(new URL('https://192.0.2.7:8443/'));
    expect(explain(roomProblems.signallingUnreachable)).toMatchObject({ code: unreachable.code, whatToDo: unreachable.whatToDo });
    const { problem: mismatch } = transportProblems.versionMismatch(1, 2);
    expect(explain(roomProblems.versionMismatch(2))).toMatchObject({ code: mismatch.code, whatToDo: mismatch.whatToDo });
  });

  it.each(['never heard of', '__proto__', 'toString', ''])('by a coordinator that makes up %j is answered all the same', (code) => {
    expect(explain({ code, message: 'm' })).toEqual({ code, message: 'm', whatToDo: expect.stringMatching(/./) as unknown });
  });
});

describe('an error', () => {
  it('is the problem that it carries', () => {
    const lost = trainerProblems.gpuLost('');
    expect(problemOf(new TrainerError(lost))).toEqual(lost);
    expect(problemOf(transportProblems.wrongKey())).toEqual(transportProblems.wrongKey().problem);
    expect(storageProblemOf(new TrainerError(lost))).toEqual(lost);
    expect(storageProblemOf(new StorageError('storage-full', 'm')).code).toBe('storage-full');
  });

  it('that carries none is unexpected, and of the store that storage is not there', () => {
    expect(problemOf(new Error('boom'))).toEqual(problem('unexpected', 'boom'));
    expect(problemOf('boom')).toEqual(problem('unexpected', 'boom'));
    expect(storageProblemOf(new Error('boom'))).toMatchObject({ code: 'storage-unavailable', message: 'boom' });
  });
});
