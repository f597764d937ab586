/** Entry of the command line (started by launch.mjs): words in, an exit code out, one line on stderr for what is wrong. */
import { createGpuTrainer } from '../trainer/gpu-trainer.ts';
import { openModel } from '../trainer/open-model.ts';
import { carriedProblem } from '../trainer/errors.ts';
import type { TuningOptions } from '../engine/index.ts';
import { parseCommand } from './commands.ts';
import { nodeGpu } from './node-gpu.ts';
import { progressOn } from './progress.ts';
import { cacheFolder, fileTuningStore } from './tuning-file.ts';

async function main(words: readonly string[]): Promise<number> {
  try {
    const command = parseCommand(words);
    if (command.kind === 'help') {
      process.stdout.write(command.text);
      return 0;
    }
    let interrupted = false;
    process.once('SIGINT', () => {
      interrupted = true;
    });
    await command.run({
      openTrainer: () => createGpuTrainer({ gpu: nodeGpu(), engineOptions: { tuning: rememberedTuning() } }),
      openModel: (model) => openModel(nodeGpu(), model, { tuning: rememberedTuning() }),
      isTerminal: process.stdout.isTTY,
      progress: progressOn(process.stderr),
      print: (text) => process.stdout.write(text),
      warn: (line) => process.stderr.write(`cotrain: ${line}\n`),
      isInterrupted: () => interrupted,
    });
    return 0;
  } catch (error) {
    process.stderr.write(`cotrain: ${lineOf(error)}\n`);
    return 1;
  }
}

function rememberedTuning(): TuningOptions {
  return {
    store: fileTuningStore(cacheFolder(process.env)),
    onProgress(done) {
      if (done === 0 && process.stderr.isTTY) process.stderr.write('measuring which kernels are fastest on this GPU (once, two seconds)\n');
    },
  };
}

/** One line, with what to do where the error knows. */
function lineOf(error: unknown): string {
  const problem = carriedProblem(error);
  const text = problem === null ? (error instanceof Error ? error.message : String(error)) : `${problem.message} ${problem.whatToDo}`;
  return text.replace(/\s*\n\s*/g, ' ');
}

// Exits instead of returning: Dawn's threads would keep the process alive.
process.exit(await main(process.argv.slice(2)));
