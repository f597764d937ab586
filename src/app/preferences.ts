/** What this browser remembers for its person: name and theme. Works, forgetting, where storage is denied. */

const prefix = 'cotrain.';

export function readPreference(key: string): string | null {
  try {
    return localStorage.getItem(prefix + key);
  } catch {
    // Storage is switched off or the page is sandboxed: the preference simply isn't remembered.
    return null;
  }
}

export function writePreference(key: string, value: string): void {
  try {
    localStorage.setItem(prefix + key, value);
  } catch {
    // Full or denied; nothing depends on it.
  }
}

/** Longest name that the room's messages carry. */
export const maxNameLength = 40;

/** Short, kind and easy to tell apart in a list of thirty. */
const suggestedNames = [
  'Heron', 'Otter', 'Lynx', 'Wren', 'Marten', 'Plover', 'Badger', 'Swift', 'Newt', 'Finch', 'Hare', 'Ibex', 'Kestrel',
  'Dormouse', 'Puffin', 'Tern', 'Stoat', 'Crane', 'Vole', 'Siskin', 'Adder', 'Osprey', 'Beaver', 'Curlew',
];

/** The remembered name, or a suggestion that is remembered from now on. */
export function rememberedName(random: () => number = Math.random): string {
  const known = readPreference('name');
  if (known !== null && known.trim() !== '') return known;
  const animal = suggestedNames[Math.floor(random() * suggestedNames.length)] ?? 'Heron';
  const name = `${animal} ${Math.floor(random() * 90) + 10}`;
  writePreference('name', name);
  return name;
}

export function rememberName(name: string): void {
  writePreference('name', name.slice(0, maxNameLength));
}
