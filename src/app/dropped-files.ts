/** The files of a drop, those in dropped folders too: each with its path in the folder. Reads none. */

/** More is no model, but a disk. */
const maxFiles = 1_000;

/** Throws where there are too many. */
export async function filesOfDrop(drop: DataTransfer): Promise<readonly File[]> {
  // Entries have to be taken at once: they are gone after the event.
  const entries = [...drop.items].flatMap((item) => item.webkitGetAsEntry() ?? []);
  if (entries.length === 0) return [...drop.files];
  const files: File[] = [];
  for (const entry of entries) await collect(entry, files);
  return files;
}

async function collect(entry: FileSystemEntry, files: File[]): Promise<void> {
  if (files.length >= maxFiles) throw new Error(`more than ${maxFiles} files were dropped; drop the model’s own folder`);
  if (entry instanceof FileSystemFileEntry) {
    const file = await new Promise<File>((resolve, reject) => {
      entry.file(resolve, reject);
    });
    // As a folder's picker has it; a dropped file doesn't know its folder.
    Object.defineProperty(file, 'webkitRelativePath', { value: entry.fullPath.replace(/^\//, '') });
    files.push(file);
    return;
  }
  if (!(entry instanceof FileSystemDirectoryEntry)) return;
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise<readonly FileSystemEntry[]>((resolve, reject) => {
      reader.readEntries(resolve, reject);
    });
    if (some.length === 0) return;
    for (const child of some) await collect(child, files);
  }
}
