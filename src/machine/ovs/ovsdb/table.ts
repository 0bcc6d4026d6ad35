/** The rows of one table as they stand, with what finds them: references that hold them, and indexes. */
import type { Row } from './row.ts';
import type { Column, TableSchema } from './schema/types.ts';

/** The text under which an index keeps a row: its columns' values. */
export function indexKey(row: Row, index: readonly Column[]): string {
  return JSON.stringify(index.map((column) => [row.cell(column).keys, row.cell(column).values]));
}

export class Table {
  readonly schema: TableSchema;
  readonly rows = new Map<string, Row>();
  /** How many strong references point to a row; 0 is not kept. */
  readonly references = new Map<string, number>();
  /** One for each index of the schema: key -> row. */
  readonly indexes: readonly Map<string, Row>[];

  constructor(schema: TableSchema) {
    this.schema = schema;
    this.indexes = schema.indexes.map(() => new Map());
  }

  /** Puts rows in the place of others; `before` null: it is new, `after` null: it goes. */
  apply(changes: readonly { readonly before: Row | null; readonly after: Row | null }[]): void {
    // All old keys go first: two rows may have swapped them.
    for (const { before } of changes) {
      if (before !== null)
        this.schema.indexes.forEach((index, i) => void this.indexes[i]!.delete(indexKey(before, index)));
    }
    for (const { before, after } of changes) {
      if (after === null) this.rows.delete(before!.uuid);
      else this.rows.set(after.uuid, after);
      if (after !== null)
        this.schema.indexes.forEach((index, i) => void this.indexes[i]!.set(indexKey(after, index), after));
    }
  }
}
