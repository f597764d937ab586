/**
 * Data sets of a Hugging Face hub by name: which of their files to read, and how to read them in parts. Whoever runs the hub is
 * given by its address; this page sends it nothing but requests for files.
 */
import { DataError } from '../errors.ts';
import { fileOfUrl } from './data-file.ts';
import type { DataFile, UrlOptions } from './data-file.ts';
import { formatOf } from './formats.ts';

export const publicHubUrl = 'https://huggingface.co';
/** Where the hub keeps what it has made of data sets in other formats. */
const convertedRevision = 'refs/convert/parquet';

export interface HubDataset {
  /** Such as `roneneldan/TinyStories`. */
  readonly name: string;
  /** Default `main`, or what the hub has converted where that has no file that can be read. */
  readonly revision?: string;
  /** A folder of it, or one file. */
  readonly path?: string;
}

export interface HubOptions extends UrlOptions {
  readonly hubUrl?: string;
}

/** `hf://datasets/NAME[@REVISION][/PATH]`; null where an address is something else. Throws `DataError` where it is half of one. */
export function parseHubAddress(address: string): HubDataset | null {
  if (!address.startsWith('hf://')) return null;
  const match = /^hf:\/\/datasets\/([\w.-]+(?:\/[\w.-]+)?)(?:@([^/]+))?(?:\/(.+))?$/.exec(address);
  const [, name, revision, path] = match ?? [];
  if (name === undefined) throw new DataError(`${address} names no data set: write hf://datasets/OWNER/NAME, and after it @REVISION or /PATH if need be`);
  return { name, ...(revision !== undefined && { revision: decodeURIComponent(revision) }), ...(path !== undefined && { path }) };
}

/** The data set's files of training data. Throws `DataError` when there is none, or none that can be read. */
export async function hubFiles(dataset: HubDataset, options: HubOptions = {}): Promise<readonly DataFile[]> {
  const { name, revision, path } = dataset;
  const found = await list(dataset, revision ?? 'main', options);
  let chosen = { revision: revision ?? 'main', files: trainingFiles(found, path) };
  if (chosen.files.length === 0 && revision === undefined && path === undefined) {
    const converted = await list(dataset, convertedRevision, options).catch(() => []);
    chosen = { revision: convertedRevision, files: trainingFiles(converted, path) };
  }
  if (chosen.files.length === 0) {
    throw new DataError(`the data set ${name} has no file that can be read${path === undefined ? '' : ` at ${path}`} (${found.length} files, of other kinds)`);
  }
  const { hubUrl = publicHubUrl } = options;
  return chosen.files.map((file) => {
    const address = `${hubUrl}/datasets/${name}/resolve/${encodeURIComponent(chosen.revision)}/${file.path.split('/').map(encodeURIComponent).join('/')}`;
    return { ...fileOfUrl(address, options, `${name}/${file.path}`), size: file.size, measure: () => Promise.resolve(file.size) };
  });
}

interface HubFile {
  readonly path: string;
  readonly size: number;
}

async function list({ name }: HubDataset, revision: string, { hubUrl = publicHubUrl, fetch: ask, signal }: HubOptions): Promise<readonly HubFile[]> {
  const { listFiles } = await import('@huggingface/hub');
  const files: HubFile[] = [];
  try {
    const abortable: typeof fetch = (input, init) => (ask ?? fetch)(input, { ...init, ...(signal !== undefined && { signal }) });
    for await (const { type, path, size } of listFiles({ repo: { type: 'dataset', name }, recursive: true, revision, hubUrl, fetch: abortable })) {
      if (type === 'file') files.push({ path, size });
    }
  } catch (error) {
    if (signal?.aborted === true) throw error;
    const status = error instanceof Error && 'statusCode' in error ? Number(error.statusCode) : null;
    if (status === 404 || status === 401) throw new DataError(`${hubUrl} has no public data set ${name}${revision === 'main' ? '' : ` at ${revision}`} (status ${status})`);
    throw new DataError(`the files of the data set ${name} can't be listed (${error instanceof Error ? error.message : String(error)}): is ${hubUrl} to be reached?`);
  }
  return files;
}

const preference = ['parquet', 'json-lines', 'json', 'table', 'text'] as const;

/** Files of one format, the most exact one there is; of those, the training split, where files say which is which. */
function trainingFiles(files: readonly HubFile[], path: string | undefined): readonly HubFile[] {
  const asked = path === undefined ? files : files.filter((file) => file.path === path || file.path.startsWith(`${path}/`));
  const isExact = asked.some((file) => file.path === path);
  // README.md and the like are about the data.
  const data = isExact ? asked : asked.filter((file) => !/(^|\/)(readme|license|\.)[^/]*$/i.test(file.path) && !/\.(md|markdown)$/i.test(file.path));
  for (const format of preference) {
    const ofFormat = data.filter((file) => formatOf(file.path) === format && file.size > 0);
    if (ofFormat.length === 0) continue;
    const training = ofFormat.filter((file) => /(^|[/_.-])train/i.test(file.path));
    return (training.length > 0 ? training : ofFormat).toSorted((a, b) => (a.path < b.path ? -1 : 1));
  }
  return [];
}
