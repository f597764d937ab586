import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { deserializeTokenizer } from '../../src/data/serialized-tokenizer.ts';
import { tokenizeText } from '../../src/data/tokenize-text.ts';
import { byCharacter } from '../../src/data/tokenized-text.ts';
import { driven } from './driven.ts';
import { corpusBatches } from '../../src/data/batches.ts';
import { presets } from '../../src/data/presets.ts';
import type { HistoryPoint, PeerId, PeerRow, Step, Term } from '../../src/room/messages.ts';
import { TrainingClock, recentSpeed } from '../../src/session/figures.ts';
import { incompleteLink, newRoomAddress, parseRoomLink, roomLink } from '../../src/session/link.ts';
import { RoomNews, comingsAndGoings } from '../../src/session/news.ts';
import { RowsError, decodeRows, encodeRows } from '../../src/session/rows.ts';
import { noRules } from '../../src/room/rules.ts';
import type { RoomRules } from '../../src/room/rules.ts';
import { batchesOf, composeRun, estimateRun, factsOfText, parseRun, precisionNotice, RunError, serializeRun, trainerSettings } from '../../src/session/run.ts';

function point(step: number, ms: number, tokens: number): HistoryPoint {
  return { step: step as Step, loss: 1, gradNorm: 1, lr: 1e-3, ms, tokens, bytesDown: 0, bytesUp: 0 };
}

describe('room links', () => {
  it('carry room and key in the fragment and come back whole', () => {
    const address = newRoomAddress();
    const link = roomLink(new URL('https://192.0.2.7:8443/?theme=dark#old'), address);
    expect(link).toContain('/?theme=dark#room=');
    expect(parseRoomLink(link)).toEqual(address);
    expect(parseRoomLink(new URL(link).hash)).toEqual(address);
  });

  it('that were cut off are told apart from pages without a room', () => {
    const link = roomLink(new URL('https://192.0.2.7:8443/'), newRoomAddress());
    expect(parseRoomLink(link.slice(0, link.indexOf('&')))).toBe(incompleteLink);
    expect(parseRoomLink(link.slice(0, -20))).toBe(incompleteLink);
    expect(parseRoomLink('https://192.0.2.7:8443/')).toBeNull();
  });

  it('never repeat a room or a key', () => {
    const addresses = Array.from({ length: 100 }, newRoomAddress);
    expect(new Set(addresses.map(({ room }) => room)).size).toBe(100);
    expect(new Set(addresses.map(({ key }) => key)).size).toBe(100);
  });
});

describe('rows on the wire', () => {
  const vocabularySize = 11;
  const shapes = fc.record({
    microbatches: fc.integer({ min: 1, max: 4 }),
    rows: fc.integer({ min: 1, max: 3 }),
    contextLength: fc.integer({ min: 2, max: 9 }),
    size: fc.constantFrom(vocabularySize, 256, 257, 65_536, 65_537, 250_000),
    isPlain: fc.boolean(),
    keepDocumentsApart: fc.boolean(),
  });

  it('arrive as they were sent', () => {
    fc.assert(
      fc.property(shapes, fc.infiniteStream(fc.nat(2 ** 30)), ({ microbatches, rows, contextLength, size, isPlain, keepDocumentsApart }, chance) => {
        const positions = rows * contextLength;
        const draw = (below: number = size): Uint32Array => Uint32Array.from({ length: positions }, () => (chance.next().value as number) % below);
        const sent = Array.from({ length: microbatches }, () => {
          const inputIds = draw();
          const next = inputIds.map((_, at) => ((at + 1) % contextLength === 0 ? 0 : (inputIds[at + 1] ?? 0)));
          const documentStarts = new Uint32Array(positions);
          for (const [at, chances] of draw(3).entries()) documentStarts[at] = at % contextLength === 0 || chances === 0 ? at % contextLength : (documentStarts[at - 1] ?? 0);
          const lossWeights = Float32Array.from(draw(3), (weight) => weight / 2);
          return { rows, contextLength, inputIds, targets: isPlain ? next : draw(), lossWeights, ...(keepDocumentsApart && { documentStarts }) };
        });
        expect(decodeRows(encodeRows(sent), { microbatches, rows, contextLength, vocabularySize: size, keepDocumentsApart })).toEqual(sent);
      }),
    );
  });

  it('of a book by character take little more than a byte for each', () => {
    const options = { contextLength: 128, order: 'shuffled', seed: 1, validationShare: 0, rowsPerStep: 4, rowsPerMicrobatch: 4 } as const;
    const source = corpusBatches(Uint32Array.from({ length: 1000 }, (_, at) => at % 90), options);
    expect(encodeRows([source.draw(0, 0)]).byteLength).toBeLessThan(4 * 128 * 1.2);
  });

  it('that were cut or changed anywhere are refused, or are rows all the same', () => {
    const source = { rows: 2, contextLength: 5, inputIds: Uint32Array.from({ length: 10 }, (_, at) => at), targets: new Uint32Array(10), lossWeights: new Float32Array(10).fill(1), documentStarts: Uint32Array.of(0, 0, 2, 2, 4, 0, 1, 1, 1, 1) };
    const expected = { microbatches: 2, rows: 2, contextLength: 5, vocabularySize, keepDocumentsApart: true };
    const good = new Uint8Array(encodeRows([source, source]));
    fc.assert(
      fc.property(fc.nat(good.length), fc.array(fc.record({ at: fc.nat(good.length - 1), value: fc.nat(255) }), { maxLength: 3 }), (length, changes) => {
        const bent = good.slice(0, length);
        for (const { at, value } of changes) bent[at] = value;
        try {
          for (const { inputIds, targets, lossWeights, documentStarts } of decodeRows(bent.buffer, expected)) {
            expect(documentStarts?.every((start, at) => start <= at % 5)).toBe(true);
            expect([...inputIds, ...targets].every((id) => id < vocabularySize)).toBe(true);
            expect(lossWeights.every((weight) => weight >= 0 && Number.isFinite(weight))).toBe(true);
          }
        } catch (error) {
          expect(error).toBeInstanceOf(RowsError);
        }
      }),
      { numRuns: 2000 },
    );
  });

  it('that a hostile coordinator bent are refused', () => {
    const rows = { rows: 2, contextLength: 3, inputIds: new Uint32Array(6), targets: new Uint32Array(6), lossWeights: new Float32Array(6).fill(1) };
    const expected = { microbatches: 1, rows: 2, contextLength: 3, vocabularySize, keepDocumentsApart: false };
    const refuses = (bytes: ArrayBuffer): void => {
      expect(() => decodeRows(bytes, expected)).toThrow(RowsError);
    };
    refuses(encodeRows([rows]).slice(4));
    refuses(encodeRows([rows, rows]));
    refuses(encodeRows([{ ...rows, inputIds: new Uint32Array(6).fill(vocabularySize) }]));
    refuses(encodeRows([{ ...rows, targets: new Uint32Array(6).fill(vocabularySize) }]));
    refuses(encodeRows([{ ...rows, lossWeights: new Float32Array(6).fill(NaN) }]));
    refuses(encodeRows([{ ...rows, lossWeights: new Float32Array(6).fill(-1) }]));
    refuses(encodeRows([{ ...rows, rows: 3, contextLength: 2 }]));
    // A run that keeps documents apart says so, and no assignment says otherwise.
    refuses(encodeRows([{ ...rows, documentStarts: Uint32Array.of(0, 1, 1, 0, 0, 0) }]));
  });
});

describe('composing a run', () => {
  it('with local steps takes the preset’s steps for theirs, and draws as many rows for each of the room’s', () => {
    const text = 'the quick brown fox jumps over the lazy dog. '.repeat(100);
    const { description, tokens } = composeRun({ preset: 'own-text', text, localSteps: 30 }, byCharacter(text));
    const { settings } = description;
    expect(settings).toMatchObject({ localSteps: 30, steps: 33, evalEvery: 3, rowsPerStep: 16, optimizer: { warmupSteps: 2 } });
    expect(batchesOf(description, tokens).microbatchesPerStep).toBe((30 * 16) / 2);
    expect(trainerSettings(description)).toMatchObject({ localSteps: 30, steps: 33 });
    expect(estimateRun({ preset: 'own-text', text, localSteps: 30 }, factsOfText(byCharacter(text))).tokensPerStep).toBe(30 * 16 * 128);
    expect(composeRun({ preset: 'own-text', text, localSteps: 30, steps: 7 }, byCharacter(text)).description.settings.steps).toBe(7);
    expect(estimateRun({ preset: 'own-text', text, localSteps: 1000, rowsPerStep: 200 }, factsOfText(byCharacter(text))).problem?.code).toBe('bad-settings');
  });

  it('fills in every preset so that it survives the trip to another peer', () => {
    for (const preset of presets) {
      const text = preset.text.kind === 'inline' ? preset.text.text : 'The whale, the sea and the ship. '.repeat(40);
      const { description } = composeRun({ preset: preset.id }, byCharacter(text));
      expect(parseRun(serializeRun(description))).toEqual(description);
      expect(description.settings.model.vocab_size).toBe(new Set(text).size);
      expect(description.prompt.length).toBeGreaterThan(0);
    }
  });

  it('gives the small presets the alphabets they promise', () => {
    const sizeOf = (id: string): number => {
      const preset = presets.find((candidate) => candidate.id === id);
      return preset?.text.kind === 'inline' ? new Set(preset.text.text).size : NaN;
    };
    expect(sizeOf('repeated-pattern')).toBe(3);
    expect(sizeOf('tiny-rhyme')).toBe(11);
    expect(sizeOf('counting-list')).toBe(11);
  });

  it('lets any run-file key be overridden', () => {
    const text = 'abcdefgh'.repeat(100);
    const { description } = composeRun(
      { preset: 'own-text', steps: 7, rowsPerStep: 3, contextLength: 16, seed: 5, model: { num_hidden_layers: 1 }, optimizer: { learningRate: 1e-4 } },
      byCharacter(text),
    );
    expect(description.settings).toMatchObject({ steps: 7, rowsPerStep: 3, contextLength: 16, seed: 5 });
    expect(description.settings.model).toMatchObject({ num_hidden_layers: 1, max_position_embeddings: 16 });
    expect(description.settings.optimizer.learningRate).toBe(1e-4);
    expect(description.settings.optimizer.minLearningRate).toBeLessThanOrEqual(1e-4);
  });

  it('computes in f32 unless asked otherwise, and tells a person whose device can’t do as asked', () => {
    const text = 'abc'.repeat(100);
    const { description } = composeRun({ preset: 'repeated-pattern', precision: 'mixed' }, byCharacter(text));
    expect(trainerSettings(description).precision).toBe('mixed');
    const plain = composeRun({ preset: 'repeated-pattern' }, byCharacter(text)).description;
    const { precision: _left, ...older } = plain.settings;
    expect(parseRun(JSON.stringify({ ...plain, settings: older })).settings.precision, 'a description by an older page').toBe('f32');
    expect(precisionNotice('mixed', 'f32')).toMatch(/32 bits/);
    expect([precisionNotice('f32', 'f32'), precisionNotice('mixed', 'mixed')]).toEqual([null, null]);
  });

  it('says what is wrong with settings that cannot run', () => {
    const codeOf = (settings: Parameters<typeof estimateRun>[0], text: string): string | undefined => estimateRun(settings, factsOfText(byCharacter(text))).problem?.code;
    expect(codeOf({ preset: 'own-text' }, '')).toBe('text-too-short');
    expect(codeOf({ preset: 'own-text' }, 'too short for this')).toBe('text-too-short');
    expect(codeOf({ preset: 'counting-list', model: { num_attention_heads: 3 } }, '0123456789 '.repeat(50))).toBe('bad-settings');
    expect(codeOf({ preset: 'counting-list', rowsPerStep: 0 }, '0123456789 '.repeat(50))).toBe('bad-settings');
    expect(codeOf({ preset: 'counting-list' }, '0123456789 '.repeat(50))).toBeUndefined();
  });

  it('expects a first loss of ln(vocabulary)', () => {
    expect(estimateRun({ preset: 'repeated-pattern' }, factsOfText(byCharacter('abc'.repeat(100)))).expectedInitialLoss).toBeCloseTo(Math.log(3), 12);
  });

  it('refuses a description that another peer made up', () => {
    const good = JSON.parse(serializeRun(composeRun({ preset: 'repeated-pattern' }, byCharacter('abc'.repeat(100))).description)) as Record<string, unknown>;
    for (const bad of ['{', '[]', JSON.stringify({ ...good, tokenizer: JSON.stringify({ kind: 'characters', characters: ['a', 'b'] }) }), JSON.stringify({ ...good, settings: {} })]) {
      expect(() => parseRun(bad)).toThrow(RunError);
    }
  });

  it('opens descriptions that were saved when all tokenizers were by character', async () => {
    const { description, tokens } = composeRun({ preset: 'repeated-pattern' }, byCharacter('abc'.repeat(100)));
    const { tokenizer: _newer, ...older } = JSON.parse(serializeRun(description)) as Record<string, unknown>;
    const opened = parseRun(JSON.stringify({ ...older, characters: ['a', 'b', 'c'] }));
    expect(opened).toEqual(description);
    expect((await deserializeTokenizer(opened.tokenizer)).decode(tokens.subarray(0, 4))).toBe('abca');
    expect(() => parseRun(JSON.stringify({ ...older, characters: ['a', 'b'] }))).toThrow('The model has 3 tokens and the tokenizer 2');
  });

  it('carries a tokenizer of byte pairs, and refuses one that is none or has another size', async () => {
    const text = 'the whale and the sea and the whale '.repeat(40);
    const tokenized = driven(tokenizeText(text, { kind: 'bpe', vocabularySize: 280 }));
    const { description, tokens } = composeRun({ preset: 'own-text', contextLength: 16 }, tokenized);
    const opened = parseRun(serializeRun(description));
    expect(opened).toEqual(description);
    expect(opened).toMatchObject({ tokenizerKind: 'bpe', settings: { model: { vocab_size: tokenized.tokenizer.vocabularySize } } });
    const tokenizer = await deserializeTokenizer(opened.tokenizer);
    expect(tokenizer.decode(tokens)).toBe(text);
    expect(tokens.length).toBeLessThan(text.length / 2);
    for (const wrong of [description.tokenizer.replace(/"vocabularySize":\d+/, '"vocabularySize":5'), '{"kind":"words"}', 'no JSON']) {
      expect(() => parseRun(JSON.stringify({ ...description, tokenizer: wrong }))).toThrow(RunError);
    }
    expect(estimateRun({ preset: 'own-text', contextLength: 16 }, factsOfText(tokenized, text.length))).toMatchObject({ isByCharacter: false, characters: text.length, tokens: tokens.length });
  });

  it('draws the same batches from a description that went through storage', () => {
    const { description, tokens } = composeRun({ preset: 'counting-list' }, byCharacter('0123456789 '.repeat(50)));
    const before = batchesOf(description, tokens);
    const after = batchesOf(parseRun(serializeRun(description)), tokens);
    expect(after.draw(17, 2)).toEqual(before.draw(17, 2));
  });
});

describe('figures of the history', () => {
  it('give the room’s speed over its latest steps only', () => {
    const slowStart = Array.from({ length: 50 }, (_, step) => point(step, 10_000, 100));
    const history = [...slowStart, ...Array.from({ length: 20 }, (_, at) => point(50 + at, 100, 100))];
    expect(recentSpeed(history)).toEqual({ tokensPerSecond: 1000, stepMs: 100 });
    expect(recentSpeed([])).toEqual({ tokensPerSecond: 0, stepMs: 0 });
  });

  it('count time spent training, and again from the start when the history was rolled back', () => {
    const clock = new TrainingClock();
    const history = [point(0, 10, 1), point(1, 20, 1), point(2, 30, 1)];
    expect(clock.elapsedMs(history.slice(0, 2))).toBe(30);
    expect(clock.elapsedMs(history)).toBe(60);
    expect(clock.elapsedMs(history.slice(0, 1))).toBe(10);
    expect(clock.elapsedMs([point(0, 11, 1), point(1, 21, 1)]), 'the same steps as another coordinator did them').toBe(32);
  });

});

describe('news of the room', () => {
  const row = (id: string, role: PeerRow['role'] = 'member'): PeerRow =>
    ({ id, name: id.toUpperCase(), role, device: '', isSoftware: false, tokensPerSecond: 0, microbatches: 0, state: 'ready' }) as unknown as PeerRow;
  const view = (term: number, step: number, peers: readonly PeerRow[], self = 'me') => ({ term: term as Term, step: step as Step, peers, gone: [], self: self as PeerId, rules: noRules, areRulesInForce: true });

  it('tell who came and went, but not oneself', () => {
    expect(comingsAndGoings([row('me'), row('ada')], [row('me'), row('ben'), row('eva', 'watcher')], 'me')).toEqual([
      'BEN joined.',
      'EVA joined to watch.',
      'ADA left.',
    ]);
    expect(comingsAndGoings([], [row('me'), row('ada')], 'me'), 'everybody who was there before oneself').toEqual([]);
  });

  it('tell why somebody is gone who did not leave', () => {
    const gone = [{ name: 'ADA', reason: 'the other side stopped answering' }, { name: 'BEN', reason: 'it left the room' }];
    expect(comingsAndGoings([row('me'), row('ada'), row('ben')], [row('me')], 'me', gone)).toEqual(['ADA is gone: the other side stopped answering.', 'BEN left.']);
  });

  it('tell who leads after whom, from which step, and that nothing was lost', () => {
    const news = new RoomNews();
    const before = [row('ada', 'coordinator'), row('ben'), row('me'), row('eva')];
    expect(news.observe(view(1, 411, before), 0)).toEqual([]);
    expect(news.observe(view(2, 412, before), 5_000), 'the old table is still there').toEqual([]);
    expect(news.observe(view(2, 412, [row('ben', 'coordinator'), row('me')]), 5_100)).toEqual(['ADA is gone; BEN leads from step 412; nothing was lost.']);
    expect(news.observe(view(2, 420, [row('ben', 'coordinator'), row('me'), row('eva')]), 7_000), 'Eva had not left').toEqual([]);
    expect(news.observe(view(2, 450, [row('ben', 'coordinator'), row('me'), row('dan')]), 14_000)).toEqual(['DAN joined.', 'EVA left.']);
  });

  it('tell what the owner has decided since one came, once', () => {
    const news = new RoomNews();
    const ruled = (revision: number): RoomRules => ({ ...noRules, revision, latest: { kind: 'remove', by: 'Ada', about: 'Cid' } });
    const seen = (revision: number, areRulesInForce = true) => news.observe({ ...view(1, 5, [row('ada', 'coordinator'), row('me')]), rules: ruled(revision), areRulesInForce }, 0);
    expect(seen(4)).toEqual([]);
    expect(seen(5, false), 'not in force yet').toEqual([]);
    expect(seen(5)).toEqual(['Ada removed Cid from the room.']);
    expect(seen(5)).toEqual([]);
  });

  it('tell the new leader that it leads, and which steps are computed again when some were lost', () => {
    const news = new RoomNews();
    news.observe(view(1, 50, [row('ada', 'coordinator'), row('me')]), 0);
    const after = [row('me', 'coordinator'), row('ada')];
    expect(news.observe(view(2, 47, after), 9_000)).toEqual(['You lead from step 47; steps 47 to 49 are computed again.']);
  });
});
