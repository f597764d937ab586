/** What a person has chosen to train on, as a value that can be sent to a worker, and the files that it comes to. */
import { fileOfBlob, fileOfUrl } from './data-file.ts';
import type { DataFile } from './data-file.ts';
import { hubFiles } from './hub.ts';
import type { HubDataset, HubOptions } from './hub.ts';

export type DataChoice =
  | { readonly kind: 'files'; readonly files: readonly { readonly name: string; readonly blob: Blob }[] }
  | { readonly kind: 'url'; readonly url: string }
  | { readonly kind: 'hub'; readonly dataset: HubDataset; readonly hubUrl?: string };

/** Throws `DataError`. */
export async function filesOf(choice: DataChoice, options: Pick<HubOptions, 'signal'> = {}): Promise<readonly DataFile[]> {
  switch (choice.kind) {
    case 'files':
      return choice.files.map(({ name, blob }) => fileOfBlob(name, blob));
    case 'url':
      return [fileOfUrl(choice.url, options)];
    case 'hub':
      return hubFiles(choice.dataset, { ...options, ...(choice.hubUrl !== undefined && { hubUrl: choice.hubUrl }) });
  }
}
