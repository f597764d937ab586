/** Files that a person picked or dropped, folders opened, with the names they go by. Reads nothing of what is in them. */
import { formatOf } from '../data/sources/formats.ts';

export interface ChosenFile {
  /** With its folders, where it was in any. */
  readonly name: string;
  readonly blob: File;
}

export function pickedFiles(list: FileList | null): readonly ChosenFile[] {
  return usable([...(list ?? [])].map((blob) => ({ name: blob.webkitRelativePath === '' ? blob.name : blob.webkitRelativePath, blob })));
}

/** Entries have to be asked for before anything is awaited. */
export async function droppedFiles({ items, files }: DataTransfer): Promise<readonly ChosenFile[]> {
  const entries = [...items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  if (entries.length === 0) return pickedFiles(files);
  return usable((await Promise.all(entries.map(filesIn))).flat());
}

async function filesIn(entry: FileSystemEntry): Promise<readonly ChosenFile[]> {
  if (isFile(entry)) {
    const blob = await new Promise<File>((resolve, reject) => {
      entry.file(resolve, reject);
    });
    return [{ name: entry.fullPath.replace(/^\//, ''), blob }];
  }
  if (!isFolder(entry)) return [];
  const reader = entry.createReader();
  const inside: FileSystemEntry[] = [];
  // A reader gives a hundred or so at a time, and then none.
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => {
      reader.readEntries(resolve, reject);
    });
    if (some.length === 0) break;
    inside.push(...some);
  }
  return (await Promise.all(inside.map(filesIn))).flat();
}

function isFile(entry: FileSystemEntry): entry is FileSystemFileEntry {
  return entry.isFile;
}

function isFolder(entry: FileSystemEntry): entry is FileSystemDirectoryEntry {
  return entry.isDirectory;
}

/** Of a folder, what is of a kind that can be read; a file that was chosen by itself is not passed over in silence. */
function usable(files: readonly ChosenFile[]): readonly ChosenFile[] {
  const known = files.filter(({ name }) => !name.includes('/') || formatOf(name) !== null);
  return (known.length > 0 ? known : files).toSorted((a, b) => (a.name < b.name ? -1 : 1));
}
