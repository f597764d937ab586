/** The playground: a person lets the model write while it learns, stops it, and compares it with what it was. */
import { AxeBuilder } from '@axe-core/playwright';
import { expect, test } from './fixtures.ts';
import { createRoom, untilStep } from './support.ts';

const endless = {
  preset: 'counting-list',
  steps: 1_000_000,
  rowsPerStep: 2,
  rowsPerMicrobatch: 1,
  contextLength: 32,
  model: { hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 1, num_key_value_heads: 1, head_dim: 16 },
} as const;

test('the model writes as asked while it learns, can be stopped, and is compared with weights that were kept', async ({ openPage }, info) => {
  const page = await openPage({ viewport: { width: 1280, height: 900 } });
  await createRoom(page, endless);
  await untilStep(page, 3);

  const prompt = page.getByTestId('writing-prompt');
  await prompt.fill('1');
  await page.getByText('How it writes').click();
  await page.getByTestId('writing-maxNewTokens').fill('1024');
  // By keyboard: the button is where the field leads to.
  await prompt.press('Tab');
  await page.keyboard.press('Enter');
  const answers = page.getByTestId('writing-text');
  await expect(answers).toHaveText(/^1.{3}/s);
  await page.getByTestId('writing-stop').click();
  await expect(page.getByTestId('writing-speed')).toHaveText(/tokens\/s/);

  await page.getByText('Compare with how it is now').click();
  await page.getByTestId('keep-name').fill('young');
  await expect(page.getByTestId('keep')).toContainText('kB');
  await page.getByTestId('keep').click();
  await expect(page.getByTestId('writing-compare')).toHaveValue('1');
  await page.getByTestId('writing-maxNewTokens').fill('32');
  await prompt.press('Control+Enter');
  await expect(page.getByTestId('writing-speed')).toHaveText([/tokens\/s/, /tokens\/s/]);
  await expect(answers).toHaveCount(2);

  // Scripts: weights, settings and seed decide the text.
  const again = await page.evaluate(async () => {
    const options = { weights: 1, seed: 7, maxNewTokens: 12, temperature: 1 };
    let grown = '';
    const first = await window.cotrain.sample('1', { ...options, onText: (text) => (grown = text) });
    return { texts: [first.text, (await window.cotrain.sample('1', options)).text], grown, first };
  });
  expect(again.texts[0]).toBe(again.texts[1]);
  expect(again.first).toMatchObject({ end: 'length', tokens: 12 });
  expect(again.first.text.startsWith(again.grown)).toBe(true);

  await page.evaluate(() => window.cotrain.pause());
  for (const colorScheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme });
    await page.locator('chat-panel').screenshot({ path: info.outputPath(`writing-${colorScheme}.png`) });
    const { violations } = await new AxeBuilder({ page }).include({ fromShadowDom: ['cotrain-app', 'room-screen', 'chat-panel'] }).analyze();
    expect(violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.target.join(' ')).join('; ')}`), colorScheme).toEqual([]);
  }
  await page.setViewportSize({ width: 390, height: 844 });
  await page.locator('chat-panel').screenshot({ path: info.outputPath('writing-phone.png') });
  expect(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)).toBe(0);
  await page.getByRole('button', { name: 'Drop young' }).click();
  await expect(page.getByTestId('writing-compare')).toHaveCount(0);
});
