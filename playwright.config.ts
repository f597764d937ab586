/**
 * Tests of the product in real Chromium: built page, real server, WebRTC, WebGPU. One at a time: on two cores at half their usual
 * speed (29 November 2026) two at once kept each other from what they wait for.
 */
import { existsSync } from 'node:fs';
import { defineConfig } from '@playwright/test';
import { findChromium } from './tools/vulkan.mjs';

const chromium = findChromium();
/** Without a GPU Chromium computes WebGPU in SwiftShader, slowly but truly. */
const hasGpu = process.platform !== 'linux' || existsSync('/dev/dri');

/**
 * Without the last two the page itself is drawn by SwiftShader too, at the cost of the training: a room of one made 11.2 steps
 * a second then, and makes 16.3 (two cores, November 2026).
 */
const softwareArguments = ['--use-webgpu-adapter=swiftshader', '--enable-features=Vulkan', '--disable-gpu-rasterization', '--disable-accelerated-2d-canvas'];

export default defineConfig({
  testDir: 'test/e2e',
  outputDir: 'test-results/e2e',
  globalSetup: './test/e2e/build.ts',
  fullyParallel: false,
  workers: 1,
  retries: 0,
  forbidOnly: process.env['CI'] !== undefined,
  timeout: 120_000,
  expect: { timeout: 20_000 },
  reporter: [['list'], ['json', { outputFile: 'test-results/reports/playwright.json' }]],
  use: {
    browserName: 'chromium',
    ...(chromium === null ? {} : { launchOptions: { executablePath: chromium, args: chromiumArguments() } }),
    screenshot: 'only-on-failure',
    trace: 'off',
  },
});

function chromiumArguments(): string[] {
  return [
    '--enable-unsafe-webgpu',
    ...(hasGpu ? [] : softwareArguments),
    // Tests often run as root, where Chromium's own sandbox can't.
    '--no-sandbox',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
  ];
}
