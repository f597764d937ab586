/** What the page guarantees whatever it shows: legible colours, calm rendering. */
import { describe, expect, it } from 'vitest';
import { connectionInWords, warmingInWords } from '../../src/app/phases.ts';
import type { ConnectionRow, PeerRow } from '../../src/app/phases.ts';
import { RenderGate, renderIntervalMs } from '../../src/app/render-gate.ts';
import { palettes } from '../../src/app/theme.ts';
import type { ThemeName } from '../../src/app/theme.ts';

/** Relative luminance and contrast as WCAG 2.2 defines them. */
function luminance(color: string): number {
  const channel = (at: number): number => {
    const value = Number.parseInt(color.slice(at, at + 2), 16) / 255;
    return value <= 0.040_45 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  };
  return 0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5);
}
function contrast(a: string, b: string): number {
  const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return ((light ?? 0) + 0.05) / ((dark ?? 0) + 0.05);
}

const themes: readonly ThemeName[] = ['light', 'dark'];
const textOn: readonly (readonly [keyof typeof palettes.light, readonly (keyof typeof palettes.light)[]])[] = [
  ['ink', ['paper', 'sheet', 'well', 'accent-wash', 'warn-wash', 'bad-wash']],
  ['ink-soft', ['paper', 'sheet', 'well', 'accent-wash', 'bad-wash']],
  ['accent', ['paper', 'sheet', 'accent-wash']],
  ['on-accent', ['accent', 'accent-strong']],
  ['bad', ['paper', 'sheet', 'bad-wash']],
  ['warn', ['paper', 'sheet', 'warn-wash']],
];
const markOn: typeof textOn = [
  ['rule-strong', ['paper', 'sheet']],
  ['pen-train', ['sheet']],
  ['pen-validation', ['sheet']],
  ['pen-rate', ['sheet']],
  ['pen-gradient', ['sheet']],
  ['accent', ['well']],
];

describe.each(themes)('the %s theme', (theme) => {
  const palette = palettes[theme];
  it.each(textOn)('keeps text in %s legible (4.5:1) on every ground it stands on', (text, grounds) => {
    for (const ground of grounds) expect(contrast(palette[text], palette[ground]), `${text} on ${ground}`).toBeGreaterThanOrEqual(4.5);
  });
  it.each(markOn)('keeps lines in %s visible (3:1)', (line, grounds) => {
    for (const ground of grounds) expect(contrast(palette[line], palette[ground]), `${line} on ${ground}`).toBeGreaterThanOrEqual(3);
  });
});

/** A gate over numbers, where a value of 100 or more is urgent, with a clock that tests move. */
function gateOf(): { gate: RenderGate<number>; shown: number[]; advance: (ms: number) => void; hide: (isHidden: boolean) => void } {
  const shown: number[] = [];
  const waiting: { atMs: number; run: () => void }[] = [];
  let nowMs = 0;
  let isHidden = false;
  const gate = new RenderGate<number>(0, {
    show: (value) => shown.push(value),
    isUrgent: (_shown, next) => next >= 100,
    isHidden: () => isHidden,
    nowMs: () => nowMs,
    later: (run, delayMs) => waiting.push({ atMs: nowMs + delayMs, run }),
  });
  const advance = (ms: number): void => {
    nowMs += ms;
    for (const due of waiting.filter(({ atMs }) => atMs <= nowMs)) {
      waiting.splice(waiting.indexOf(due), 1);
      due.run();
    }
  };
  return { gate, shown, advance, hide: (hidden) => (isHidden = hidden) };
}

describe('rendering', () => {
  it('shows the newest of many states, four times a second at most', () => {
    const { gate, shown, advance } = gateOf();
    for (let i = 1; i <= 99; i++) {
      gate.push(i);
      advance(10);
    }
    expect(shown.length).toBe(Math.floor((99 * 10) / renderIntervalMs));
    advance(renderIntervalMs);
    expect(shown.at(-1)).toBe(99);
  });

  it('shows at once what a person waits for', () => {
    const { gate, shown } = gateOf();
    gate.push(1);
    gate.push(100);
    expect(shown).toEqual([100]);
  });

  it('shows nothing while hidden and the newest state when visible again', () => {
    const { gate, shown, advance, hide } = gateOf();
    gate.push(1);
    hide(true);
    advance(1000);
    gate.push(2);
    gate.push(100);
    advance(1000);
    expect(shown).toEqual([]);
    hide(false);
    gate.flush();
    expect(shown).toEqual([100]);
    gate.flush();
    expect(shown).toEqual([100]);
  });
});

describe('the table of peers', () => {
  const row = { peer: 'ada', path: 'direct', roundTripMs: 12, bytesPerSecondUp: 1_200_000, bytesPerSecondDown: 3_000_000 } as ConnectionRow;
  const words = (change: Partial<ConnectionRow>): string => connectionInWords({ ...row, ...change }).replaceAll('\u00a0', ' ');

  it('says how a peer is connected, and nothing of what is not known', () => {
    expect(words({})).toBe('direct · 12 ms · ↑ 1.2 MB/s ↓ 3.0 MB/s');
    expect(words({ path: 'relayed', bytesPerSecondUp: null, bytesPerSecondDown: null })).toBe('relayed · 12 ms');
    expect(words({ path: null, roundTripMs: null })).toBe('↑ 1.2 MB/s ↓ 3.0 MB/s');
    expect(words({ roundTripMs: null, bytesPerSecondUp: null })).toBe('direct · ↓ 3.0 MB/s');
    expect(words({ path: null, roundTripMs: null, bytesPerSecondUp: null, bytesPerSecondDown: null })).toBe('');
  });

  it('says who is getting ready to lead, and how far behind', () => {
    const peer = { succession: 'warming', lagSteps: 7 } as PeerRow;
    expect(warmingInWords(peer)).toBe('getting ready to lead (7 steps behind)');
    expect(warmingInWords({ ...peer, lagSteps: 1 })).toBe('getting ready to lead (1 step behind)');
    expect(warmingInWords({ ...peer, lagSteps: 0 })).toBe('getting ready to lead');
    expect(warmingInWords({ ...peer, succession: 'ready' })).toBeNull();
    expect(warmingInWords({ ...peer, succession: undefined })).toBeNull();
  });
});
