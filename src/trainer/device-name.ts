/** What a person would call this device: the GPU, and the browser it is used from ("Apple M2 · Chrome"). */

/** The parts of `GPUAdapter` that say what it is. */
export interface NamedAdapter {
  readonly info: { readonly vendor: string; readonly architecture: string; readonly device: string; readonly description: string };
}

/** The parts of `navigator` that say which browser it is; `userAgentData` is missing outside Chromium. */
export interface NamedBrowser {
  readonly userAgent: string;
  readonly userAgentData?: { readonly brands: readonly { readonly brand: string }[]; readonly mobile: boolean };
}

const maxCharacters = 60;

/** Vendors as `GPUAdapterInfo` spells them; the rest are shown with a capital. */
const vendorNames: Readonly<Record<string, string>> = {
  amd: 'AMD',
  arm: 'ARM',
  nvidia: 'NVIDIA',
  'img-tec': 'Imagination',
};

const softwareRenderers: readonly (readonly [pattern: RegExp, name: string])[] = [
  [/swiftshader/i, 'SwiftShader'],
  [/llvmpipe|lavapipe/i, 'lavapipe'],
  [/microsoft basic render|warp/i, 'WARP'],
];

export function deviceName(adapter: NamedAdapter, browser: NamedBrowser | null): string {
  const gpu = gpuName(adapter);
  const used = browser === null ? null : browserName(browser);
  return used === null ? gpu : `${gpu} · ${used}`;
}

/** "Apple metal-3", "NVIDIA Ampere", "software (SwiftShader)", "a GPU" when the browser tells nothing. */
export function gpuName({ info }: NamedAdapter): string {
  const all = [info.vendor, info.architecture, info.device, info.description].join(' ');
  const software = softwareRenderers.find(([pattern]) => pattern.test(all));
  if (software) return `software (${software[1]})`;
  // Descriptions end in driver details in brackets that mean nothing to most people.
  const described = info.description.replace(/\s*\([^)]*\)\s*$/u, '').trim();
  if (described !== '') return described.slice(0, maxCharacters);
  const vendor = vendorNames[info.vendor] ?? capitalize(info.vendor);
  const named = [vendor, capitalize(info.architecture)].filter((part) => part !== '').join(' ');
  return named === '' ? 'a GPU' : named.slice(0, maxCharacters);
}

function capitalize(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1);
}

/** By the brands where the browser lists them, else by the user-agent string, most specific mark first. */
export function browserName(browser: NamedBrowser): string | null {
  const brands = browser.userAgentData?.brands.map(({ brand }) => brand) ?? [];
  for (const [brand, name] of [
    ['Microsoft Edge', 'Edge'],
    ['Opera', 'Opera'],
    ['Brave', 'Brave'],
    ['Google Chrome', 'Chrome'],
    ['Chromium', 'Chromium'],
  ] as const) {
    if (brands.includes(brand)) return name;
  }
  for (const [mark, name] of [
    [/Edg(?:A|iOS)?\//, 'Edge'],
    [/OPR\//, 'Opera'],
    [/Firefox\/|FxiOS\//, 'Firefox'],
    [/Chrome\/|CriOS\//, 'Chrome'],
    [/Safari\//, 'Safari'],
  ] as const) {
    if (mark.test(browser.userAgent)) return name;
  }
  return null;
}
