/** Why storage refused, in words a person can act on. Anything that isn't storage's fault passes through unchanged. */

export type StorageErrorCode = 'storage-full' | 'storage-denied' | 'storage-unavailable';

const advice: Readonly<Record<StorageErrorCode, string>> = {
  'storage-full':
    'Delete saved runs that you no longer need, or free space on this device. Training goes on; the newest good checkpoint is kept.',
  'storage-denied':
    'Allow this site to store data (private windows often forbid it). Training goes on, but it cannot be continued after this page closes.',
  'storage-unavailable':
    'Reload the page; if that does not help, restart the browser. Training goes on, but nothing is saved meanwhile.',
};

export class StorageError extends Error {
  override readonly name = 'StorageError';
  readonly code: StorageErrorCode;
  /** As the page shows it. */
  readonly problem: { readonly code: StorageErrorCode; readonly message: string; readonly whatToDo: string };

  constructor(code: StorageErrorCode, message: string, cause?: unknown) {
    super(message, { cause });
    this.code = code;
    this.problem = { code, message, whatToDo: advice[code] };
  }
}

/** Browsers report a full disk and forbidden storage under these DOMException names. */
const codeByName: Readonly<Record<string, StorageErrorCode>> = {
  QuotaExceededError: 'storage-full',
  NS_ERROR_DOM_QUOTA_REACHED: 'storage-full',
  SecurityError: 'storage-denied',
  NotAllowedError: 'storage-denied',
  InvalidStateError: 'storage-unavailable',
  UnknownError: 'storage-unavailable',
  AbortError: 'storage-unavailable',
  TransactionInactiveError: 'storage-unavailable',
  TimeoutError: 'storage-unavailable',
  VersionError: 'storage-unavailable',
};

const sentences: Readonly<Record<StorageErrorCode, string>> = {
  'storage-full': 'There is no room left to save the run on this device.',
  'storage-denied': 'This browser does not allow the page to save the run.',
  'storage-unavailable': "This browser's storage does not answer.",
};

/** The typed error for what a storage call threw; errors that storage does not raise come back as they are. */
export function asStorageError(cause: unknown): unknown {
  if (!(cause instanceof Error) || cause instanceof StorageError) return cause;
  const code = codeByName[cause.name];
  if (code === undefined) return cause;
  const detail = cause.message === '' ? '' : ` (${cause.message})`;
  return new StorageError(code, `${sentences[code]}${detail}`, cause);
}
