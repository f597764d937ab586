import { describe, expect, test } from 'vitest';
import { browserName, deviceName } from '../../src/trainer/device-name.ts';

const adapter = (info: Partial<{ vendor: string; architecture: string; device: string; description: string }>) => ({
  info: { vendor: '', architecture: '', device: '', description: '', ...info },
});
const chrome = {
  userAgent: 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36',
};

describe('the name of a device', () => {
  test.each([
    [{ vendor: 'apple', architecture: 'metal-3' }, 'Apple Metal-3 · Chrome'],
    [{ vendor: 'nvidia', architecture: 'ampere' }, 'NVIDIA Ampere · Chrome'],
    [{ vendor: 'intel', description: 'Intel(R) Iris(R) Xe Graphics (TGL GT2)' }, 'Intel(R) Iris(R) Xe Graphics · Chrome'],
    [{ vendor: 'google', architecture: 'swiftshader' }, 'software (SwiftShader) · Chrome'],
    [{ vendor: 'mesa', description: 'llvmpipe (LLVM 19.1.7, 256 bits)' }, 'software (lavapipe) · Chrome'],
    [{}, 'a GPU · Chrome'],
  ])('made of %j is %s', (info, expected) => {
    expect(deviceName(adapter(info), chrome)).toBe(expected);
  });

  test('outside a browser is the GPU alone', () => {
    expect(deviceName(adapter({ vendor: 'amd', architecture: 'rdna-3' }), null)).toBe('AMD Rdna-3');
  });

  test.each([
    ['Chromium', { userAgent: chrome.userAgent, userAgentData: { mobile: false, brands: [{ brand: 'Chromium' }] } }],
    ['Chrome', { userAgent: '', userAgentData: { mobile: false, brands: [{ brand: 'Chromium' }, { brand: 'Google Chrome' }] } }],
    ['Edge', { userAgent: `${chrome.userAgent} Edg/140.0.0.0` }],
    ['Firefox', { userAgent: 'Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0' }],
    ['Safari', { userAgent: 'Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Safari/605.1.15' }],
    [null, { userAgent: 'curl/8' }],
  ])('tells the browser %s', (expected, browser) => {
    expect(browserName(browser)).toBe(expected);
  });
});
