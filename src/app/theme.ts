/**
 * The look in one file: colours of both themes, type scale, spaces. Everything else refers to these custom properties.
 *
 * The idea is an engineering pad: pale green paper ruled in squares, dark ink, coloured pens for the curves. Three
 * typefaces have one job each: serif is for reading, sans for operating, mono for what is measured or computed.
 */
import { readPreference, writePreference } from './preferences.ts';

export type ThemeName = 'light' | 'dark';
/** 'system' follows the operating system. */
export type ThemeChoice = ThemeName | 'system';

/** Every text colour keeps 4.5:1 on every ground it is used on, every pen and border of a control 3:1 (tested). */
export const palettes = {
  light: {
    paper: '#eff3ec',
    sheet: '#fbfdf9',
    well: '#e6ece2',
    rule: '#d2ddd0',
    'rule-strong': '#75897b',
    ink: '#12211a',
    'ink-soft': '#47594f',
    accent: '#0d5940',
    'accent-strong': '#08402d',
    'on-accent': '#ffffff',
    'accent-wash': '#d9eade',
    'pen-train': '#1b4fc0',
    'pen-validation': '#b8341d',
    'pen-rate': '#6b3fa8',
    'pen-gradient': '#85600a',
    warn: '#744c00',
    'warn-wash': '#fbf0d3',
    bad: '#a3231a',
    'bad-wash': '#fbe9e6',
  },
  dark: {
    paper: '#0e1512',
    sheet: '#141d19',
    well: '#0a100e',
    rule: '#25332d',
    'rule-strong': '#60786c',
    ink: '#e6efe9',
    'ink-soft': '#a5b8ad',
    accent: '#8ed8b5',
    'accent-strong': '#b2ead0',
    'on-accent': '#07241a',
    'accent-wash': '#1b3429',
    'pen-train': '#86b3ff',
    'pen-validation': '#ff957f',
    'pen-rate': '#c5a7ff',
    'pen-gradient': '#dfbb62',
    warn: '#efcb7c',
    'warn-wash': '#2d2614',
    bad: '#ff9d90',
    'bad-wash': '#35201d',
  },
} as const satisfies Record<ThemeName, Record<string, string>>;

const scale = {
  'face-read': "Charter, 'Bitstream Charter', 'Iowan Old Style', 'Sitka Text', Cambria, Georgia, 'DejaVu Serif', serif",
  'face-work': "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif",
  'face-data': "ui-monospace, 'SF Mono', 'Cascadia Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace",
  'size-small': '0.78rem',
  'size-work': '0.9rem',
  'size-read': '1rem',
  'size-lead': '1.2rem',
  'size-head': '1.1rem',
  'size-figure': '1.5rem',
  'size-title': 'clamp(1.75rem, 1.2rem + 2.4vw, 2.75rem)',
  'space-1': '4px',
  'space-2': '8px',
  'space-3': '12px',
  'space-4': '16px',
  'space-5': '24px',
  'space-6': '36px',
  'space-7': '56px',
  /** Side of one square of the pad. */
  square: '24px',
  corner: '3px',
} as const;

function declarations(values: Readonly<Record<string, string>>): string {
  return Object.entries(values)
    .map(([name, value]) => `--${name}:${value};`)
    .join('');
}

function themeSheet(): string {
  const light = `color-scheme:light;${declarations(palettes.light)}`;
  const dark = `color-scheme:dark;${declarations(palettes.dark)}`;
  return `
:root{${declarations(scale)}${light}}
@media (prefers-color-scheme:dark){:root:not([data-theme=light]){${dark}}}
:root[data-theme=dark]{${dark}}
html{background:var(--paper);color:var(--ink);font-family:var(--face-work);-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0}
@media (prefers-reduced-motion:no-preference){html{scroll-behavior:smooth}}`;
}

export function themeChoice(): ThemeChoice {
  const known = readPreference('theme');
  return known === 'light' || known === 'dark' ? known : 'system';
}

function applyChoice(choice: ThemeChoice): void {
  if (choice === 'system') delete document.documentElement.dataset['theme'];
  else document.documentElement.dataset['theme'] = choice;
}

/** Told to whoever draws with colours outside CSS (the charts' canvas). */
export const themeChanged = 'cotrain-theme';

export function chooseTheme(choice: ThemeChoice): void {
  writePreference('theme', choice);
  applyChoice(choice);
  document.dispatchEvent(new Event(themeChanged));
}

/** Once, before the first element is drawn. */
export function installTheme(): void {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(themeSheet());
  document.adoptedStyleSheets.push(sheet);
  applyChoice(themeChoice());
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
    document.dispatchEvent(new Event(themeChanged));
  });
}
