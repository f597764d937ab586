/** Models and runs as files in a real page: saved from a room, opened again, gone on with, and begun from. */
import { readFile } from 'node:fs/promises';
import type { Page } from '@playwright/test';
import { expect, test } from './fixtures.ts';
import { expectNoProblem, statusOf, statusWhen, untilStep } from './support.ts';

/** Chromium's picker waits for a person: without it the page downloads. */
const withoutPicker = (): void => {
  Object.assign(globalThis, { showSaveFilePicker: undefined });
};

/** Saves by the dialog that is open, as the choice at this place. */
async function saved(page: Page, choice: number): Promise<{ readonly name: string; readonly bytes: Buffer }> {
  await page.getByTestId('format').nth(choice).check();
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByTestId('save-file').click()]);
  const bytes = await readFile(await download.path());
  await expect(page.getByText('Saved.')).toBeVisible();
  await page.getByTestId('close-save').click();
  return { name: download.suggestedFilename(), bytes };
}

test('a run is saved while it trains, goes on elsewhere from its file, and a model from its folder begins another', async ({ openPage, consoleErrors }) => {
  test.setTimeout(240_000);
  const first = await openPage({ before: withoutPicker });
  await first.evaluate(() => window.cotrain.create({ preset: 'repeated-pattern', steps: 5000, evalEvery: 0 }));
  await untilStep(first, 30);
  await first.evaluate(() => window.cotrain.pause());
  const { loss, step } = await statusWhen(first, 'paused', ({ phase }) => phase === 'paused');
  await first.getByTestId('save-model').click();
  const zip = await saved(first, 0);
  await first.getByTestId('save-model').click();
  const gguf = await saved(first, 5);
  await first.getByTestId('save-model').click();
  const run = await saved(first, 6);
  expect([zip.name, gguf.name, run.name].map((name) => name.replace(/^[^.]*?(-f32|-q8_0)?\./, '$1.'))).toEqual(['-f32.zip', '-q8_0.gguf', '.cotrain.safetensors']);
  expect(gguf.bytes.subarray(0, 4).toString()).toBe('GGUF');

  const second = await openPage();
  await second.getByTestId('open-files').click();
  await second.getByTestId('model-files').setInputFiles({ name: run.name, mimeType: '', buffer: run.bytes });
  await second.getByTestId('keep-run').click();
  await second.getByTestId('continue-run').click();
  const continued = await untilStep(second, step + 2);
  expect(continued.history.find((point) => point.step === step - 1)?.loss).toBe(loss);
  expect(continued.role).toBe('coordinator');
  await expectNoProblem(second);
  await second.evaluate(() => window.cotrain.leave());

  // The room that begins with the trained weights is as good at once.
  const third = await openPage();
  await third.getByTestId('open-files').click();
  await third.getByTestId('model-files').setInputFiles({ name: zip.name, mimeType: '', buffer: zip.bytes });
  await third.getByTestId('use-model').click();
  await third.getByTestId('preset-repeated-pattern').click();
  await expect(third.getByTestId('begins-with')).toBeVisible();
  await third.getByTestId('start').click();
  const { history } = await untilStep(third, 1);
  const fresh = (await statusOf(first)).history[0]?.loss ?? 0;
  expect(history[0]?.loss).toBeLessThan(fresh - 0.1);

  // A file that is none is said so, and nothing is lost.
  await third.evaluate(() => window.cotrain.leave());
  const refusal = await third.evaluate(async (bytes) => {
    const file = new File([Uint8Array.from(bytes)], 'half.gguf');
    return window.cotrain.create({ preset: 'repeated-pattern', start: { kind: 'files', files: [file] } }).catch((error: unknown) => String(error));
  }, [...gguf.bytes.subarray(0, 400)]);
  expect(refusal).toContain('half.gguf');
  expect(consoleErrors).toEqual([]);
});
