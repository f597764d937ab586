/**
 * The built page's files: right types, gzip, ETags, long caching for names that carry a hash. Reads only below its
 * directory; keeps what it read, since a page is a few files.
 */
import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import type { RequestHandler } from 'express';

const types: Readonly<Record<string, string>> = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.ico': 'image/x-icon',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.map': 'application/json; charset=utf-8',
  '.md': 'text/markdown; charset=utf-8',
  '.png': 'image/png',
  '.svg': 'image/svg+xml',
  '.txt': 'text/plain; charset=utf-8',
  '.webmanifest': 'application/manifest+json',
  '.webp': 'image/webp',
  '.woff2': 'font/woff2',
};
const compressible = /^(?:text\/|application\/|image\/svg)/;
const worthCompressingBytes = 1024;
/** Vite puts hashed names under /assets: what is behind such a name never changes. */
const hashedName = /^\/assets\/.+-[A-Za-z0-9_-]{8,}\.\w+$/;

interface PageFile {
  readonly modifiedMs: number;
  readonly type: string;
  readonly etag: string;
  readonly plain: Buffer;
  readonly gzipped: Buffer | null;
}

export function pageFiles(directory: string): RequestHandler {
  const root = path.resolve(directory);
  const kept = new Map<string, PageFile>();

  async function load(urlPath: string): Promise<PageFile | null> {
    const file = path.join(root, ...urlPath.split('/'));
    if (!file.startsWith(root + path.sep) || urlPath.includes('\0')) return null;
    const type = types[path.extname(file).toLowerCase()];
    const status = await stat(file).catch(() => null);
    if (status === null || !status.isFile()) return null;
    const before = kept.get(file);
    if (before?.modifiedMs === status.mtimeMs) return before;
    const plain = await readFile(file);
    const shrinks = plain.byteLength >= worthCompressingBytes && type !== undefined && compressible.test(type);
    const loaded: PageFile = {
      modifiedMs: status.mtimeMs,
      type: type ?? 'application/octet-stream',
      etag: createHash('sha256').update(plain).digest('base64url').slice(0, 22),
      plain,
      gzipped: shrinks ? await promisify(gzip)(plain, { level: 9 }) : null,
    };
    kept.set(file, loaded);
    return loaded;
  }

  return (request, response) => {
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.status(405).set('Allow', 'GET, HEAD').type('text/plain').send('Only GET works here.\n');
      return;
    }
    const urlPath = decoded(request.path);
    const wantsPage = urlPath !== null && path.extname(urlPath) === '';
    const found = urlPath === null ? Promise.resolve(null) : load(wantsPage ? '/index.html' : urlPath);
    found
      .then((file) => {
        if (file === null || urlPath === null) {
          response.status(404).type('text/plain').send('There is no such file here.\n');
          return;
        }
        const zipped = file.gzipped !== null && /\bgzip\b/.test(request.headers['accept-encoding'] ?? '');
        const etag = `"${file.etag}${zipped ? '-gz' : ''}"`;
        response.set({
          'Content-Type': file.type,
          'Cache-Control': hashedName.test(urlPath) ? 'public, max-age=31536000, immutable' : 'no-cache',
          ETag: etag,
          Vary: 'Accept-Encoding',
        });
        if (request.headers['if-none-match'] === etag) {
          response.status(304).end();
          return;
        }
        if (zipped) response.set('Content-Encoding', 'gzip');
        const body = zipped && file.gzipped !== null ? file.gzipped : file.plain;
        response.set('Content-Length', String(body.byteLength));
        response.end(request.method === 'HEAD' ? undefined : body);
      })
      .catch(() => {
        if (response.headersSent) response.destroy();
        else response.status(500).type('text/plain').send('The file could not be read.\n');
      });
  };
}

function decoded(urlPath: string): string | null {
  try {
    return decodeURIComponent(urlPath);
  } catch {
    return null; // A stray % in the path.
  }
}
