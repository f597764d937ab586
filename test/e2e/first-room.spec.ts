/** The shortest whole path: open the page, start the smallest preset, see it learn. */
import { expect, test } from './fixtures.ts';
import { expectNoProblem, shownLink, statusOf, statusWhen, untilStep } from './support.ts';

test('one click on the landing page trains the repeated pattern from ln 3 to below 0.1', async ({ openPage }) => {
  test.setTimeout(300_000);
  const page = await openPage();
  await page.getByTestId('preset-repeated-pattern').click();
  await page.getByTestId('start').click();
  await shownLink(page);
  const { history } = await untilStep(page, 1);
  expect(Math.abs((history[0]?.loss ?? 0) / Math.log(3) - 1)).toBeLessThan(0.05);
  const done = await statusWhen(page, 'finished', (status) => status.phase === 'finished', 240_000);
  expect(done.role).toBe('coordinator');
  expect(done.loss).toBeLessThan(0.1);
  expect(done.history).toHaveLength(done.steps);
  await expectNoProblem(page);
});

test('a second page joins by the link, computes its share and sees the same curve', async ({ openPage }) => {
  const first = await openPage();
  await first.getByTestId('preset-counting-list').click();
  await first.getByTestId('start').click();
  const link = await shownLink(first);
  await untilStep(first, 1);
  const second = await openPage({ at: link });
  await second.getByTestId('check-device').click();
  await second.getByTestId('join').click();
  await statusWhen(second, 'computed a share', (status) =>
    status.peers.some((peer) => peer.role === 'member' && peer.microbatches > 0),
  );
  const { step } = await statusOf(second);
  await untilStep(second, step + 5);
  const [one, two] = [await statusOf(first), await statusOf(second)];
  const shared = Math.min(one.history.length, two.history.length);
  expect(two.history.slice(0, shared).map((point) => point.loss)).toEqual(one.history.slice(0, shared).map((point) => point.loss));
});

test('pieces of words are learned before a run starts, which can be called off, and the run is of such tokens', async ({ openPage }) => {
  const page = await openPage();
  await page.getByTestId('preset-moby-dick').click();
  await page.getByTestId('tokenizer-kind').selectOption('bpe');
  await page.getByTestId('tokenizer-vocabulary').fill('65536');
  await page.getByTestId('start').click();
  await page.getByTestId('cancel-tokenizing').click();
  await expect(page.getByText('The run was not started.')).toBeVisible();
  expect((await statusOf(page)).phase).toBe('idle');
  await page.evaluate(async () => {
    await window.cotrain.create({
      preset: 'own-text',
      text: 'the whale and the sea, the whale and 日本 '.repeat(100),
      tokenizer: { kind: 'bpe', vocabularySize: 280 },
      contextLength: 16,
      rowsPerStep: 2,
      steps: 3,
      model: { num_hidden_layers: 1 },
    });
  });
  const { history } = await statusWhen(page, 'finished', ({ phase }) => phase === 'finished');
  const vocabularySize = Math.round(Math.exp(history[0]?.loss ?? 0));
  expect(Math.abs((history[0]?.loss ?? 0) / Math.log(280) - 1), `a first guess among ${vocabularySize} tokens`).toBeLessThan(0.05);
  await expectNoProblem(page);
});
