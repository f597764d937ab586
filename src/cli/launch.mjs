#!/usr/bin/env node
/**
 * Starts the command line: brings its bundle up to date (silently), finds a Vulkan driver for Dawn where the system has
 * none of its own, and hands over to src/cli/main.ts. Not here: commands and options.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { buildStale, projectRoot } from '../../tools/build.mjs';
import { enterVulkanEnvironment } from '../../tools/vulkan.mjs';

try {
  if (!existsSync(join(projectRoot, 'node_modules/vite'))) {
    throw new Error('the project’s packages are missing; run “npm ci” first');
  }
  await buildStale(['cli']);
} catch (error) {
  console.error(`cotrain: ${error instanceof Error ? error.message : String(error)}`);
  process.exit(1);
}
enterVulkanEnvironment();
await import(pathToFileURL(join(projectRoot, 'dist/cli/main.js')).href);
