/**
 * What survives a restart: the topology documents, in a SQLite database in the data folder. One server owns the database
 * at a time; a second one on the same folder is refused at start.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

export interface StoredTopology {
  readonly name: string;
  /** The document as JSON text. */
  readonly document: string;
  /** Grows with every change of any topology and is never used twice: what the ETag is made of. */
  readonly revision: number;
}

/** The data folder cannot be used; the message is for the person who starts the server. */
export class StoreError extends Error {}

export class TopologyStore {
  private readonly db: DatabaseSync;

  /** Opens or makes the database in `folder`; null keeps it in memory. */
  constructor(folder: string | null) {
    try {
      if (folder !== null) mkdirSync(folder, { recursive: true, mode: 0o700 });
      this.db = new DatabaseSync(folder === null ? ':memory:' : join(folder, 'ringside.sqlite'));
      this.db.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;');
      this.db.exec(
        'BEGIN EXCLUSIVE;' +
          'CREATE TABLE IF NOT EXISTS topologies (name TEXT PRIMARY KEY, document TEXT NOT NULL, revision INTEGER NOT NULL) STRICT;' +
          'CREATE TABLE IF NOT EXISTS revisions (last INTEGER NOT NULL) STRICT;' +
          'INSERT INTO revisions SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM revisions);' +
          'COMMIT;',
      );
    } catch (error) {
      const cause = error instanceof Error ? error.message : String(error);
      const hint = /locked|busy/i.test(cause) ? ' (another Ringside uses this folder)' : '';
      throw new StoreError(`RINGSIDE_DATA_DIR ${folder ?? ''} cannot be used: ${cause}${hint}`);
    }
  }

  all(): StoredTopology[] {
    const rows = this.db.prepare('SELECT name, document, revision FROM topologies ORDER BY name').all();
    return rows.map((r) => ({
      name: String(r['name']),
      document: String(r['document']),
      revision: Number(r['revision']),
    }));
  }

  /** Writes the document and returns its revision. */
  put(name: string, document: string): number {
    this.db.exec('BEGIN IMMEDIATE');
    try {
      const row = this.db.prepare('UPDATE revisions SET last = last + 1 RETURNING last').get();
      const revision = Number(row?.['last']);
      this.db
        .prepare(
          'INSERT INTO topologies (name, document, revision) VALUES (?, ?, ?) ' +
            'ON CONFLICT (name) DO UPDATE SET document = excluded.document, revision = excluded.revision',
        )
        .run(name, document, revision);
      this.db.exec('COMMIT');
      return revision;
    } catch (error) {
      this.db.exec('ROLLBACK');
      throw error;
    }
  }

  delete(name: string): void {
    this.db.prepare('DELETE FROM topologies WHERE name = ?').run(name);
  }

  close(): void {
    this.db.close();
  }
}
