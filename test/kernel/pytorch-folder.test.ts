/**
 * Folders that we write, read by PyTorch, and by Python's transformers where they are there. By hand, where Python has torch:
 * `COTRAIN_PYTHON=/usr/bin/python3 npx vitest run --project kernel test/kernel/pytorch-folder.test.ts`
 */
import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import { logitsGraph } from '../../src/model/decoder.ts';
import { parameterLayoutOf } from '../../src/model/parameters.ts';
import { huggingFaceOutputs } from '../../src/trainer/exchange/hugging-face-model.ts';
import { relativeError } from '../golden/golden.ts';
import { bpeFiles, bpeTexts } from '../llama-cpp/bpe.ts';
import { sharedEngine } from './harness.ts';
import { greedyText, tellingWeights, tinyDecoder } from './tiny-decoders.ts';

const python = process.env['COTRAIN_PYTHON'];
const scripts = join(import.meta.dirname, '../golden');

function runPython(script: string, ...words: readonly string[]) {
  return spawnSync(python ?? '', [join(scripts, script), ...words], { encoding: 'utf8', env: { ...process.env, OMP_NUM_THREADS: '1' } });
}

describe.skipIf(python === undefined).each(['llama', 'qwen3'] as const)('a %s in a folder that we wrote', (type) => {
  const config = tinyDecoder(type, 320, type === 'qwen3');
  const weights = tellingWeights(config);
  let folder = '';
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'cotrain-folder-'));
    for (const { path, chunks } of huggingFaceOutputs({ name: type, config, weights, tokenizer: bpeFiles }, 'f32')) {
      await mkdir(dirname(join(folder, path)), { recursive: true });
      await writeFile(join(folder, path), Buffer.concat([...chunks()]));
    }
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  it('has PyTorch’s logits', async () => {
    const ids = Uint32Array.from({ length: 24 }, (_, at) => (at * 37) % config.vocab_size);
    await writeFile(join(folder, 'ids.json'), JSON.stringify([[...ids]]));
    const read = runPython('read_folder.py', folder, join(folder, 'ids.json'), join(folder, 'logits.f32'));
    expect(read.status, read.stderr).toBe(0);
    const expected = new Float32Array(new Uint8Array(await readFile(join(folder, 'logits.f32'))).buffer);
    const engine = await sharedEngine();
    const layout = parameterLayoutOf(config);
    const buffer = engine.allocate('weights', layout.totalElements);
    engine.write(buffer, weights);
    const { graph, logits } = logitsGraph(config, 1, ids.length);
    const program = await engine.compile(graph, { parameters: buffer, layout, outputs: new Map([['logits', logits]]) });
    program.setInput('ids', ids);
    for (let position = 0; position < ids.length; position++) {
      program.setInput('position', Uint32Array.of(position));
      program.run();
      const right = expected.subarray(position * config.vocab_size, (position + 1) * config.vocab_size);
      expect(relativeError(await program.readOutput('logits'), right), `position ${position}`).toBeLessThan(1e-4);
    }
  });

  it('has the greedy text and the tokens of Python’s transformers, where there are any', async ({ skip }) => {
    if (spawnSync(python ?? '', ['-c', 'import transformers']).status !== 0) skip('Python has no transformers here');
    const prompt = [72, 101, 108];
    const reference = new HuggingFaceTokenizer(bpeFiles.tokenizer, bpeFiles.config);
    const texts = bpeTexts.map((text) => [text, reference.encode(text, { add_special_tokens: false }).ids]);
    await writeFile(join(folder, 'job.json'), JSON.stringify({ prompt, texts, continuation: await greedyText(config, weights, prompt, 64) }));
    const made = runPython('generate_with_transformers.py', folder, join(folder, 'job.json'));
    expect(made.status, `${made.stdout}${made.stderr}`).toBe(0);
  });
});
