/** Test projects that run in Node. Pages are tested by Playwright (playwright.config.ts). */
import { defineConfig } from 'vitest/config';
import { vulkanEnvironment } from './tools/vulkan.mjs';

// Workers inherit it, so that a single file run by hand finds the same driver as `npm test`.
Object.assign(process.env, vulkanEnvironment());

/** A project of its own, so that `npm test` can give it to the worker that would be idle. */
const equivalence = 'test/room/equivalence-*-seeds.test.ts';

export default defineConfig({
  test: {
    projects: [
      { test: { name: 'unit', include: ['test/unit/**/*.test.ts'], testTimeout: 30_000 } },
      { test: { name: 'room', include: ['test/room/**/*.test.ts'], exclude: [equivalence], testTimeout: 120_000 } },
      { test: { name: 'equivalence', include: [equivalence], testTimeout: 120_000 } },
      {
        test: {
          name: 'kernel',
          include: ['test/kernel/**/*.test.ts', 'test/golden/**/*.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 120_000,
          // One adapter, two cores: files one after another, in a forked process (Dawn's threads end with it).
          pool: 'forks',
          fileParallelism: false,
        },
      },
    ],
  },
});
