/**
 * One further RTCPeerConnection with one channel. What it needs to tell the other side (descriptions, candidates) goes out by `say` and
 * comes in by `hear`: over the connection that is proved, never through the signalling server.
 */
import * as v from 'valibot';
import type { Subflow, SubflowEvents } from './subflows.ts';

/** Negotiated: the other side makes the same one. */
const stream = 1;

const descriptionSchema = v.object({ sdp: v.pipe(v.string(), v.maxLength(12_000), v.check(hasOnlyData)) });
const candidateSchema = v.object({ candidate: v.pipe(v.string(), v.maxLength(1000)) });
const saidSchema = v.union([descriptionSchema, candidateSchema]);
type Said = v.InferOutput<typeof saidSchema>;

/** `closed` is called once, however it ends. */
export function openRtcSubflow(configuration: RTCConfiguration, role: 'caller' | 'callee', events: SubflowEvents, closed: () => void): Subflow {
  const rtc = new RTCPeerConnection(configuration);
  const channel = rtc.createDataChannel('cotrain-subflow', { negotiated: true, id: stream, ordered: true });
  channel.binaryType = 'arraybuffer';
  let isClosed = false;
  const close = (): void => {
    if (isClosed) return;
    isClosed = true;
    rtc.close();
    closed();
  };
  /** One thing after the other: a candidate must not overtake the description it belongs to. */
  let doing: Promise<void> = Promise.resolve();
  const next = (action: () => Promise<void>): void => {
    doing = doing.then(() => (isClosed ? undefined : action())).catch(() => {
      if (!isClosed) events.lost();
    });
  };
  const sayOwnDescription = async (): Promise<void> => {
    await rtc.setLocalDescription();
    events.say({ sdp: rtc.localDescription?.sdp ?? '' } satisfies Said);
  };
  rtc.addEventListener('icecandidate', ({ candidate }) => {
    // Its description goes first. The empty one says only that there are no more.
    if (candidate !== null && candidate.candidate !== '') next(() => Promise.resolve(events.say({ candidate: candidate.candidate } satisfies Said)));
  });
  rtc.addEventListener('connectionstatechange', () => {
    if (rtc.connectionState === 'failed') events.lost();
  });
  if (role === 'caller') next(sayOwnDescription);
  return {
    channel,
    hear: (said) => {
      next(async () => {
        const heard = v.parse(saidSchema, said);
        if ('candidate' in heard) {
          await rtc.addIceCandidate({ candidate: heard.candidate, sdpMLineIndex: 0 });
          return;
        }
        await rtc.setRemoteDescription({ type: role === 'caller' ? 'answer' : 'offer', sdp: heard.sdp });
        if (role === 'callee') await sayOwnDescription();
      });
    },
    close,
  };
}

/** A description with sound or pictures would have the browser set up what nobody asked for. */
function hasOnlyData(sdp: string): boolean {
  const media = sdp.match(/^m=\S+/gm) ?? [];
  return media.length === 1 && media[0] === 'm=application';
}
