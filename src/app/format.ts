/**
 * Numbers as people read them, one function per kind of quantity. Pure and locale-free, so that every tab of a room
 * shows the same figures. Not for machine-readable output: `csv.ts` writes full precision.
 */

/** Between a figure and its unit; never breaks a line. */
const unitSpace = '\u00a0';
/** Groups digits in numbers of five and more digits. */
const groupSpace = '\u202f';
/** Stands where a quantity isn't known yet. */
export const unknown = '–';

function threeDigits(value: number): string {
  const magnitude = Math.abs(value);
  if (magnitude >= 99.95) return value.toFixed(0);
  if (magnitude >= 9.995) return value.toFixed(1);
  return value.toFixed(2);
}

function twoDigits(value: number): string {
  return Math.abs(value) >= 9.95 ? value.toFixed(0) : value.toFixed(1);
}

/** 1240 → "1240", 12400 → "12 400": four digits stay together, as in print. */
export function formatInteger(value: number): string {
  const digits = Math.round(value).toString();
  if (Math.abs(value) < 9999.5) return digits;
  return digits.replace(/\B(?=(\d{3})+(?!\d))/g, groupSpace);
}

/** "1.2 k", "34 k", "5.6 M": for counts whose order of magnitude matters. */
export function formatCount(value: number): string {
  if (value < 999.5) return Math.round(value).toString();
  if (value < 999_500) return `${twoDigits(value / 1e3)}${unitSpace}k`;
  if (value < 999_500_000) return `${twoDigits(value / 1e6)}${unitSpace}M`;
  return `${twoDigits(value / 1e9)}${unitSpace}G`;
}

/** "81.2 k", "0.87 M", "12.4 M": models are spoken of in millions. */
export function formatParameters(value: number): string {
  if (value < 1000) return Math.round(value).toString();
  if (value < 500_000) return `${threeDigits(value / 1e3)}${unitSpace}k`;
  if (value < 999_500_000) return `${threeDigits(value / 1e6)}${unitSpace}M`;
  return `${threeDigits(value / 1e9)}${unitSpace}G`;
}

/** "1.2 k tokens/s" without its unit's name; below ten with one decimal, since slow peers differ there. */
export function formatRate(perSecond: number): string {
  return perSecond > 0 && perSecond < 9.95 ? perSecond.toFixed(1) : formatCount(perSecond);
}

export function formatTokensPerSecond(perSecond: number): string {
  return `${formatRate(perSecond)}${unitSpace}tokens/s`;
}

/** Decimal units, as operating systems and network meters show them. */
export function formatBytes(bytes: number): string {
  if (bytes < 999.5) return `${Math.round(bytes)}${unitSpace}B`;
  if (bytes < 999_500) return `${twoDigits(bytes / 1e3)}${unitSpace}kB`;
  if (bytes < 999_500_000) return `${twoDigits(bytes / 1e6)}${unitSpace}MB`;
  return `${twoDigits(bytes / 1e9)}${unitSpace}GB`;
}

export function formatBytesPerSecond(perSecond: number): string {
  return `${formatBytes(perSecond)}/s`;
}

/** "12 ms"; a way that takes time never reads as one that takes none. */
export function formatRoundTrip(roundTripMs: number): string {
  return roundTripMs < 1 ? `<${unitSpace}1${unitSpace}ms` : `${Math.round(roundTripMs)}${unitSpace}ms`;
}

/** "0.8 s", "42 s", "2 min 5 s", "3 h 20 min", "2 d 4 h": two units at most. */
export function formatDuration(durationMs: number): string {
  const seconds = Math.max(0, durationMs) / 1000;
  if (seconds < 9.95) return `${seconds.toFixed(1)}${unitSpace}s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole}${unitSpace}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}${unitSpace}min ${whole % 60}${unitSpace}s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 24 * 60) return `${Math.floor(minutes / 60)}${unitSpace}h ${minutes % 60}${unitSpace}min`;
  const hours = Math.round(minutes / 60);
  return `${Math.floor(hours / 24)}${unitSpace}d ${hours % 24}${unitSpace}h`;
}

/** Three decimals where losses are compared, more where a memorized text brings them close to zero. */
export function formatLoss(loss: number): string {
  if (!Number.isFinite(loss)) return 'not finite';
  const magnitude = Math.abs(loss);
  if (magnitude >= 99.95) return loss.toFixed(1);
  if (magnitude >= 0.0995 || magnitude === 0) return loss.toFixed(3);
  if (magnitude >= 0.000_95) return loss.toFixed(4);
  return loss.toExponential(1);
}

/** "3.00e-4": learning rates are compared by their exponent. */
export function formatLearningRate(rate: number): string {
  if (rate === 0) return '0';
  return rate >= 0.0995 ? rate.toFixed(3) : rate.toExponential(2);
}

/** A share between 0 and 1 as "34 %"; something that is not nothing never reads as 0 %. */
export function formatShare(share: number): string {
  const percent = share * 100;
  if (percent > 0 && percent < 1) return `<${unitSpace}1${unitSpace}%`;
  return `${Math.round(percent)}${unitSpace}%`;
}

/** "just now", "5 minutes ago", "yesterday", then the date in the reader's calendar. */
export function formatWhen(atMs: number, nowMs: number): string {
  const minutes = Math.round((nowMs - atMs) / 60_000);
  if (minutes < 1) return 'just now';
  if (minutes < 60) return minutes === 1 ? '1 minute ago' : `${minutes} minutes ago`;
  const hours = Math.round(minutes / 60);
  if (hours < 24) return hours === 1 ? '1 hour ago' : `${hours} hours ago`;
  if (hours < 48) return 'yesterday';
  return new Date(atMs).toLocaleDateString(undefined, { year: 'numeric', month: 'short', day: 'numeric' });
}

/** "14:05" for the log; the date is of no interest there. */
export function formatClock(atMs: number): string {
  const date = new Date(atMs);
  return `${date.getHours().toString().padStart(2, '0')}:${date.getMinutes().toString().padStart(2, '0')}`;
}

export function formatMaybe(value: number | null | undefined, format: (value: number) => string): string {
  return value === null || value === undefined ? unknown : format(value);
}
