/**
 * The smallest parquet files that readers accept: flat columns of required text, plain encoding, one page for each column of a row
 * group (Apache Parquet format 2.10; its structures in Thrift's compact protocol). For tests; knows no other type.
 */
import { gzipSync } from 'node:zlib';

interface ParquetOptions {
  readonly rowsPerGroup: number;
  readonly gzip?: boolean;
}

type Field = readonly [id: number, type: number, bytes: readonly number[]];

const i32 = 5;
const i64 = 6;
const binary = 8;
const list = 9;
const struct = 12;

function varint(value: number): number[] {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return [...bytes, rest];
    bytes.push((rest % 128) | 128);
  }
}

const zigzag = (value: number): number[] => varint(2 * value);
const text = (value: string): number[] => [...varint(Buffer.byteLength(value)), ...Buffer.from(value)];
const listOf = (type: number, items: readonly (readonly number[])[]): number[] => [...(items.length < 15 ? [(items.length << 4) | type] : [0xf0 | type, ...varint(items.length)]), ...items.flat()];

/** Ids ascend by less than 16. */
function structOf(fields: readonly Field[]): number[] {
  let before = 0;
  const bytes = fields.flatMap(([id, type, value]) => {
    const head = ((id - before) << 4) | type;
    before = id;
    return [head, ...value];
  });
  return [...bytes, 0];
}

export function parquetOf(columns: readonly string[], rows: readonly Readonly<Record<string, string>>[], { rowsPerGroup, gzip = false }: ParquetOptions): Uint8Array<ArrayBuffer> {
  const byteArray = 6;
  const plain = 0;
  const required = 0;
  const codec = gzip ? 2 : 0;
  const bytes: number[] = [...Buffer.from('PAR1')];
  const groups: number[][] = [];
  for (let from = 0; from < rows.length; from += rowsPerGroup) {
    const group = rows.slice(from, from + rowsPerGroup);
    const chunks = columns.map((column) => {
      const values = group.flatMap((row) => {
        const value = Buffer.from(row[column] ?? '');
        return [value.length & 255, (value.length >> 8) & 255, (value.length >> 16) & 255, 0, ...value];
      });
      const packed = gzip ? [...gzipSync(Uint8Array.from(values))] : values;
      const header = structOf([
        [1, i32, zigzag(0)],
        [2, i32, zigzag(values.length)],
        [3, i32, zigzag(packed.length)],
        [5, struct, structOf([[1, i32, zigzag(group.length)], [2, i32, zigzag(plain)], [3, i32, zigzag(3)], [4, i32, zigzag(3)]])],
      ]);
      const offset = bytes.length;
      bytes.push(...header, ...packed);
      return structOf([
        [2, i64, zigzag(offset)],
        [
          3,
          struct,
          structOf([
            [1, i32, zigzag(byteArray)],
            [2, list, listOf(i32, [zigzag(plain)])],
            [3, list, listOf(binary, [text(column)])],
            [4, i32, zigzag(codec)],
            [5, i64, zigzag(group.length)],
            [6, i64, zigzag(header.length + values.length)],
            [7, i64, zigzag(header.length + packed.length)],
            [9, i64, zigzag(offset)],
          ]),
        ],
      ]);
    });
    groups.push(structOf([[1, list, listOf(struct, chunks)], [2, i64, zigzag(0)], [3, i64, zigzag(group.length)]]));
  }
  const utf8Type = 0;
  const schema = [
    structOf([[4, binary, text('schema')], [5, i32, zigzag(columns.length)]]),
    ...columns.map((column) => structOf([[1, i32, zigzag(byteArray)], [3, i32, zigzag(required)], [4, binary, text(column)], [6, i32, zigzag(utf8Type)]])),
  ];
  const footer = structOf([[1, i32, zigzag(1)], [2, list, listOf(struct, schema)], [3, i64, zigzag(rows.length)], [4, list, listOf(struct, groups)]]);
  const length = new Uint8Array(Uint32Array.of(footer.length).buffer);
  return Uint8Array.from([...bytes, ...footer, ...length, ...Buffer.from('PAR1')]);
}
