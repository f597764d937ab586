/**
 * What a page, its browser and the server hold at a moment: memory after a collection, connections, nodes, listeners, file
 * descriptors. Reads Linux's /proc. What is too much is not this file's to say.
 */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import type { Page } from '@playwright/test';
import type { BrowserPeer } from '../../e2e/browser-room.ts';

export interface PageVitals {
  /** JavaScript of the page itself, garbage collected; its workers' and the GPU's memory is in `residentMiB`. */
  readonly heapMiB: number;
  readonly nodes: number;
  readonly listeners: number;
  /** RTCPeerConnections and data channels that are not closed. */
  readonly connections: number;
  readonly channels: number;
  /** Closed, and yet something holds them. */
  readonly closedButHeld: number;
  /** Of all the browser's processes together; what they share counts several times. */
  readonly residentMiB: number;
}

export interface ServerVitals {
  readonly residentMiB: number;
  readonly descriptors: number;
}

export interface PageSample {
  readonly name: string;
  readonly role: string;
  /** Since its browser was started, or its page was loaded again. */
  readonly ageMinutes: number;
  readonly vitals: PageVitals;
}

export interface Sample {
  readonly minute: number;
  readonly step: number;
  readonly observer: PageSample;
  readonly workers: readonly PageSample[];
  readonly server: ServerVitals;
}

interface RtcCounts {
  readonly connections: number;
  readonly channels: number;
  readonly closedButHeld: number;
}

declare global {
  interface Window {
    countRtc: () => RtcCounts;
  }
}

const bytesPerMebibyte = 2 ** 20;
/** Of statm's figures; every Linux that browsers run on here has pages of this size. */
const bytesPerPage = 4096;

export const hasProc = existsSync('/proc/self/statm');

/** Runs in a page before its own scripts. Holds nothing that would live without it. */
export function watchRtc(): void {
  const connections: WeakRef<RTCPeerConnection>[] = [];
  const channels: WeakRef<RTCDataChannel>[] = [];
  const Original = RTCPeerConnection;
  window.RTCPeerConnection = class extends Original {
    constructor(configuration?: RTCConfiguration) {
      super(configuration);
      connections.push(new WeakRef(this));
      this.addEventListener('datachannel', ({ channel }) => channels.push(new WeakRef(channel)));
    }
    override createDataChannel(label: string, options?: RTCDataChannelInit): RTCDataChannel {
      const channel = super.createDataChannel(label, options);
      channels.push(new WeakRef(channel));
      return channel;
    }
  };
  window.countRtc = () => {
    const here = <T extends object>(refs: readonly WeakRef<T>[]): T[] => refs.flatMap((ref) => ref.deref() ?? []);
    const [heldConnections, heldChannels] = [here(connections), here(channels)];
    const open = heldConnections.filter(({ connectionState }) => connectionState !== 'closed').length;
    const openChannels = heldChannels.filter(({ readyState }) => readyState !== 'closed').length;
    return { connections: open, channels: openChannels, closedButHeld: heldConnections.length - open + heldChannels.length - openChannels };
  };
}

export async function pageVitals({ page, server }: BrowserPeer): Promise<PageVitals> {
  const metrics = await collectedMetrics(page);
  const { connections, channels, closedButHeld } = await page.evaluate(() => window.countRtc());
  const processes = descendants(server.process().pid ?? 0);
  return {
    heapMiB: (metrics.get('JSHeapUsedSize') ?? Number.NaN) / bytesPerMebibyte,
    nodes: metrics.get('Nodes') ?? Number.NaN,
    listeners: metrics.get('JSEventListeners') ?? Number.NaN,
    connections,
    channels,
    closedButHeld,
    residentMiB: processes.reduce((sum, pid) => sum + residentBytes(pid), 0) / bytesPerMebibyte,
  };
}

async function collectedMetrics(page: Page): Promise<ReadonlyMap<string, number>> {
  const session = await page.context().newCDPSession(page);
  try {
    // The second one takes what finalizers of the first have let go.
    for (let round = 0; round < 2; round += 1) await session.send('HeapProfiler.collectGarbage');
    await session.send('Performance.enable');
    const { metrics } = await session.send('Performance.getMetrics');
    return new Map(metrics.map(({ name, value }) => [name, value]));
  } finally {
    await session.detach();
  }
}

export function serverVitals(pid: number): ServerVitals {
  return { residentMiB: residentBytes(pid) / bytesPerMebibyte, descriptors: readdirSync(`/proc/${pid}/fd`).length };
}

/** 0 for a process that has ended meanwhile. */
function residentBytes(pid: number): number {
  return Number(readProc(pid, 'statm')?.split(' ')[1] ?? 0) * bytesPerPage;
}

/** A process and all that it has started, and so on. */
function descendants(root: number): readonly number[] {
  const children = new Map<number, number[]>();
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid)) continue;
    // The name of the program, in parentheses, may hold anything; the parent is the second word after it.
    const stat = readProc(pid, 'stat');
    const parent = Number(stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[1] ?? 0);
    children.set(parent, [...(children.get(parent) ?? []), pid]);
  }
  const found = [root];
  for (const pid of found) found.push(...(children.get(pid) ?? []));
  return found;
}

function readProc(pid: number, file: string): string | null {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return null; // It has just ended.
  }
}
