/** This page's device as the room is told of it: the check's report, cut to what a message may hold. */
import type { PeerDevice } from '../room/messages.ts';
import type { DeviceReport } from '../trainer/types.ts';

/** Of somebody who only looks on: their GPU is never opened. */
export const watchingDevice: DeviceReport = { name: 'watching', isSoftware: false, features: [], probeTokensPerSecond: 0, problem: null };

export function peerDevice({ name, isSoftware, probeTokensPerSecond, problem }: DeviceReport): PeerDevice {
  return {
    name: name.slice(0, 120),
    isSoftware,
    probeTokensPerSecond,
    problem: problem === null ? null : { code: problem.code, message: problem.message.slice(0, 400) },
  };
}
