/** Where a browser remembers which kernels are fastest on its GPU: beside its other small settings. */
import type { SettingsStore } from '../checkpoint/settings.ts';
import type { TuningStore } from '../engine/index.ts';

export function settingsTuningStore(settings: SettingsStore): TuningStore {
  return {
    load: (key) => settings.read<unknown>(key, (stored) => stored),
    save: (key, value) => settings.write(key, value),
  };
}
