/**
 * `npm run bench -- …`: runs test/bench/main.ts as it stands, through Vite (which knows `?raw` and import.meta.glob) and
 * without a bundle. Not here: what is measured.
 */
import { join } from 'node:path';
import { runnerImport } from 'vite';
import { projectRoot } from './build.mjs';
import { enterVulkanEnvironment } from './vulkan.mjs';

enterVulkanEnvironment();
await runnerImport(join(projectRoot, 'test/bench/main.ts'), { root: projectRoot, configFile: false, logLevel: 'error' });
