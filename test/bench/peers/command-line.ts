/** The task through the command line, `cotrain train`, in a process of its own on the adapter that Dawn finds in Node. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { toHuggingFaceConfig } from '../../../src/model/config.ts';
import { projectRoot } from '../../../tools/build.mjs';
import type { Task } from './task.ts';

export interface CommandLineSteps {
  readonly stepMs: readonly number[];
  readonly losses: readonly number[];
}

/** Throws what the command line printed when it fails. */
export async function trainOnCommandLine(task: Task, rowsPerMicrobatch: number, steps: number): Promise<CommandLineSteps> {
  const { config, optimizer, contextLength, rowsPerStep, seed } = task;
  const folder = mkdtempSync(join(tmpdir(), 'cotrain-peers-'));
  try {
    const run = { model: toHuggingFaceConfig(config), steps, rowsPerStep, rowsPerMicrobatch, contextLength, order: 'sequential', seed, optimizer };
    const [data, runFile, out] = [join(folder, 'rows.jsonl'), join(folder, 'run.json'), join(folder, 'out')];
    writeFileSync(data, task.rows);
    writeFileSync(runFile, JSON.stringify(run));
    await cotrain(['train', '--data', data, '--run', runFile, '--out', out]);
    const metrics = readFileSync(join(out, 'metrics.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { readonly loss: number; readonly ms: number });
    return { stepMs: metrics.map(({ ms }) => ms), losses: metrics.map(({ loss }) => loss) };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function cotrain(words: readonly string[]): Promise<void> {
  const child = spawn(process.execPath, [join(projectRoot, 'src/cli/launch.mjs'), ...words], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(said.trim());
}
