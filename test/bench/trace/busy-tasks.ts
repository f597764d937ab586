/** How long a page's main thread was busy in one piece, from the browser's own trace: in processor time, which other work on the machine stretches less than the clock's. */
import type { Browser, Page } from '@playwright/test';

export interface BusyTasks {
  /** Of all tasks that were traced. */
  readonly count: number;
  /** Of those that used the processor for longer than `longTaskMs`. */
  readonly over: number;
  /** Those that used it for longest. */
  readonly tasks: readonly { readonly postedBy: string; readonly cpuMs: number; readonly wallMs: number }[];
}

/** What browsers call a long task. */
export const longTaskMs = 50;
const shownCount = 4;

interface TraceEvent {
  readonly name: string;
  readonly ph: string;
  readonly pid: number;
  readonly tid: number;
  /** Microseconds, as `tdur`, which is the thread's processor time. */
  readonly dur?: number;
  readonly tdur?: number;
  readonly args?: { readonly name?: string; readonly src_file?: string; readonly src_func?: string };
}

export async function busyTasksOf(browser: Browser, page: Page, action: () => Promise<void>): Promise<BusyTasks> {
  await browser.startTracing(page, { categories: ['toplevel'] });
  await action();
  const { traceEvents } = JSON.parse((await browser.stopTracing()).toString()) as { readonly traceEvents: readonly TraceEvent[] };
  const mains = new Set(traceEvents.filter(({ ph, args }) => ph === 'M' && args?.name === 'CrRendererMain').map(({ pid, tid }) => `${pid}/${tid}`));
  const tasks = traceEvents
    .filter(({ name, ph, pid, tid }) => ph === 'X' && name.endsWith('RunTask') && mains.has(`${pid}/${tid}`))
    .map(({ args, tdur = 0, dur = 0 }) => ({ postedBy: `${args?.src_file?.split('/').at(-1) ?? 'unknown'} ${args?.src_func ?? ''}`.trim().slice(0, 60), cpuMs: tdur / 1000, wallMs: dur / 1000 }))
    .sort((a, b) => b.cpuMs - a.cpuMs);
  return { count: tasks.length, over: tasks.filter(({ cpuMs }) => cpuMs > longTaskMs).length, tasks: tasks.slice(0, shownCount) };
}
