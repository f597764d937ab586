/**
 * Puts a bad network between the connections of a page: every address that one tells another becomes that of a proxy with delay
 * and loss, so that packets have no other way. Candidates that aren't plain UDP over IPv4 are dropped.
 */
import type { Page } from '@playwright/test';
import { startUdpProxy, type UdpProxy } from './udp-proxy.ts';

export interface SlowWays {
  /** A datagram takes half of it each way. */
  readonly roundTripMs: number;
  /** Share of datagrams that are lost, each way. */
  readonly loss: number;
}

/** Without it Chromium hides its addresses behind names that only multicast DNS resolves. */
export const addressesShown = '--disable-features=WebRtcHideLocalIpsWithMdns';

declare global {
  interface Window {
    /** The port of the proxy that stands before this address. */
    proxyBefore(host: string, port: number): Promise<number>;
    /** All that the page has made, in order. */
    slowConnections: RTCPeerConnection[];
  }
}

/** Before the page is opened. Returns how to end the proxies. */
export async function putSlowWays(page: Page, { roundTripMs, loss }: SlowWays): Promise<() => void> {
  const proxies = new Map<string, Promise<UdpProxy>>();
  await page.exposeFunction('proxyBefore', async (host: string, targetPort: number): Promise<number> => {
    const address = `${host}:${targetPort}`;
    const known = proxies.get(address) ?? startUdpProxy({ host, targetPort, delayMs: roundTripMs / 2, loss, seed: proxies.size + 1 });
    proxies.set(address, known);
    return (await known).port;
  });
  await page.addInitScript(rewriteCandidates);
  return () => {
    for (const proxy of proxies.values()) void proxy.then((each) => each.close());
  };
}

/** In the page. */
function rewriteCandidates(): void {
  const udpOverIpv4 = /^(candidate:\S+ \d+ udp \d+) (\d+\.\d+\.\d+\.\d+) (\d+) (.*)$/i;
  const rewritten = async (candidate: string): Promise<string | null> => {
    const [, before, host, port, after] = udpOverIpv4.exec(candidate) ?? [];
    if (before === undefined || host === undefined || after === undefined) return null;
    return `${before} ${host} ${await window.proxyBefore(host, Number(port))} ${after}`;
  };
  const Original = RTCPeerConnection;
  window.slowConnections = [];
  window.RTCPeerConnection = class extends Original {
    constructor(configuration?: RTCConfiguration) {
      super(configuration);
      window.slowConnections.push(this);
    }
    override async setRemoteDescription(description: RTCSessionDescriptionInit): Promise<void> {
      const lines = await Promise.all(
        (description.sdp ?? '').split('\r\n').map(async (line) => {
          if (!line.startsWith('a=candidate:')) return line;
          const candidate = await rewritten(line.slice('a='.length));
          return candidate === null ? null : `a=${candidate}`;
        }),
      );
      await super.setRemoteDescription({ type: description.type, sdp: lines.filter((line) => line !== null).join('\r\n') });
    }
    override async addIceCandidate(candidate?: RTCIceCandidateInit | null): Promise<void> {
      if (!candidate?.candidate) return;
      const proxied = await rewritten(candidate.candidate);
      if (proxied !== null) await super.addIceCandidate({ candidate: proxied, sdpMid: candidate.sdpMid ?? null, sdpMLineIndex: candidate.sdpMLineIndex ?? null });
    }
  };
}
