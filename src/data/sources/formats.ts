/** Which kinds of files there are, by their names. */

const formats = {
  txt: 'text',
  text: 'text',
  md: 'text',
  markdown: 'text',
  jsonl: 'json-lines',
  ndjson: 'json-lines',
  json: 'json',
  csv: 'table',
  tsv: 'table',
  parquet: 'parquet',
} as const;

export type DataFormat = (typeof formats)[keyof typeof formats];

export const dataExtensions = Object.keys(formats);

/** By the name's ending, with or without `.gz`; null where it is none of ours. */
export function formatOf(name: string): DataFormat | null {
  const path = /^https?:/.test(name) ? new URL(name).pathname : name;
  const extension = /\.([a-z]+)(?:\.gz)?$/i.exec(path)?.[1]?.toLowerCase() ?? '';
  return extension in formats ? formats[extension as keyof typeof formats] : null;
}
