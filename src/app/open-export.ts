/** Opens the dialog that saves a model, which is loaded then. */
import type { FileControls } from '../session/types.ts';

/** `room`: a saved run's; null: the room that this page is in. Rejects where the page's server doesn't answer. */
export async function openExport(files: FileControls, room: string | null, title: string): Promise<void> {
  const { ExportMenu } = await import('./export-menu.ts');
  const menu = new ExportMenu();
  Object.assign(menu, { files, room, runTitle: title });
  menu.addEventListener('closed', () => {
    menu.remove();
  });
  document.body.append(menu);
}
