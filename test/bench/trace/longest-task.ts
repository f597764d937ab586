/** How long a page's main thread was busy in one piece, from the browser's own trace: processor time, which other work on the machine leaves alone. */
import type { Browser, Page } from '@playwright/test';

export interface LongestTask {
  /** Of all tasks that were traced. */
  readonly count: number;
  /** Of the task that used the processor for longest. */
  readonly cpuMs: number;
  /** Of the task that took longest by the clock. */
  readonly wallMs: number;
}

interface TraceEvent {
  readonly name: string;
  readonly ph: string;
  readonly pid: number;
  readonly tid: number;
  /** Microseconds, as `tdur`, which is the thread's processor time. */
  readonly dur?: number;
  readonly tdur?: number;
  readonly args?: { readonly name?: string };
}

export async function longestTaskOf(browser: Browser, page: Page, action: () => Promise<void>): Promise<LongestTask> {
  await browser.startTracing(page, { categories: ['toplevel'] });
  await action();
  const { traceEvents } = JSON.parse((await browser.stopTracing()).toString()) as { readonly traceEvents: readonly TraceEvent[] };
  const mains = new Set(traceEvents.filter(({ ph, args }) => ph === 'M' && args?.name === 'CrRendererMain').map(({ pid, tid }) => `${pid}/${tid}`));
  const tasks = traceEvents.filter(({ name, ph, pid, tid }) => ph === 'X' && name.endsWith('RunTask') && mains.has(`${pid}/${tid}`));
  return { count: tasks.length, cpuMs: longest(tasks.map(({ tdur = 0 }) => tdur)), wallMs: longest(tasks.map(({ dur = 0 }) => dur)) };
}

const longest = (microseconds: readonly number[]): number => microseconds.reduce((most, each) => Math.max(most, each), 0) / 1000;
